"""What the report is made from: the files of a run folder."""

__all__ = ["POSES", "Contents"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guided.report.record import Record, read_record
from guided.report.rows import Row, load_rows, whole_number
from guided.scoring.objective import Objective

POSES = "poses"  # the folder of docked poses in a run folder


@dataclass(frozen=True)
class Contents:
    """A run folder, read.

    Args:
        folder: The run folder.
        run: What is in `run.json`.
        rows: The samples, as they are in `samples.csv`.
        unguided: Those of the unguided model; none if the run has none to compare with.
        path: The value of the candidates at each step.
        calls: The best reward so far, and the mean of the ten best, after so many calls of a request.
        objective: The run's objective; None to build it from `run.json` where it is needed.
    """

    folder: Path
    run: Mapping[str, Any]
    rows: Sequence[Row]
    unguided: Sequence[Row]
    path: Sequence[Row]
    objective: Objective | None = None
    calls: Sequence[Row] = ()

    @classmethod
    def read(cls, folder: Path, objective: Objective | None = None) -> "Contents":
        """Reads the files.

        Raises:
            GuidedError: A file is not what it should be.
            OSError: A file cannot be read.
        """
        names = ("samples", "unguided", "path", "calls")
        rows, unguided, path, calls = (load_rows(folder / f"{name}.csv") for name in names)
        run, _ = read_record(folder / "run.json", Record)
        return cls(folder, run, rows, unguided, path, objective, calls)

    @property
    def reward_name(self) -> str:
        """The name of the objective; empty where there is none."""
        return str(self.run.get("reward_name") or "")

    @property
    def modality(self) -> str:
        """What the samples are, where the run says so; that of older ones is told by their samples."""
        return str(self.run.get("modality") or "")

    @property
    def learned(self) -> bool:
        """Whether candidates were chosen by a learned value."""
        return self.run["config"].get("value") is not None

    def pose(self, row: Row) -> str:
        """The file of a sample's docked pose, relative to the folder; empty where there is none."""
        path = Path(POSES) / f"{whole_number(row.get('request')) or 0:05d}.sdf"
        return str(path) if row.get("request") and (self.folder / path).is_file() else ""
