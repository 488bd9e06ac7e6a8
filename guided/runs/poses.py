"""Poses of a run's samples, as files: `poses/00017.sdf` is that of request 17."""

__all__ = ["write_poses"]

from collections.abc import Callable, Sequence
from pathlib import Path

from guided.report.contents import POSES
from guided.report.rows import Row, load_rows, sample_of, whole_number
from guided.scoring.objective import Objective
from guided.scoring.poses import poses
from guided.scoring.term import Term
from guided.storage import make_folder, write_whole


def write_poses(folder: Path, objective: Objective, note: Callable[[str], None] = print) -> None:
    """Writes the pose of each sample whose file is not there yet; equal samples are docked once.

    Args:
        folder: The run folder, with its `samples.csv`.
        objective: The run's; its first reward that has poses gives them.
        note: Called with a message if samples have no pose.

    Raises:
        GuidedError: The folder cannot be written.
        RewardError: A worker process cannot be started.
    """
    term = next((term for term in objective.terms if term.source.pose is not None), None)
    if term is None:
        return
    missing = _missing(folder, load_rows(folder / "samples.csv"))
    without = 0
    for sample, record in zip(missing, _found(term, list(missing)), strict=True):
        for path in missing[sample]:
            if record is not None:
                make_folder(path.parent)
                write_whole(path, record)
        without += len(missing[sample]) if record is None else 0
    if without:
        note(f"{without} samples have no pose: they cannot be docked")


def _missing(folder: Path, rows: Sequence[Row]) -> dict[str, list[Path]]:
    """The files to write, by their samples."""
    missing: dict[str, list[Path]] = {}
    for row in rows:
        number, sample = whole_number(row.get("request")), sample_of(row)
        path = folder / POSES / f"{number or 0:05d}.sdf"
        if number is not None and sample and not _holds(path, sample):
            missing.setdefault(sample, []).append(path)
    return missing


def _holds(path: Path, sample: str) -> bool:
    """Whether a file is there, with the pose of this sample: its first line names it."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().rstrip("\n") == sample
    except OSError:
        return False


def _found(term: Term, samples: list[str]) -> list[str | None]:
    return poses(term, samples) if samples else []
