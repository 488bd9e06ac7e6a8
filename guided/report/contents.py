"""What the report is made from: the files of a run folder. `run.json` is checked before anything is made of it."""

__all__ = ["Contents", "read_record"]

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guided.errors import GuidedError
from guided.report.rows import Row, load_rows
from guided.scoring.objective import Objective
from guided.storage import read_json

Count = Annotated[int, Field(ge=0, le=10**18)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    """The entries that the report shows; there may be others."""

    model_config = ConfigDict(strict=True, extra="allow")


class _File(_Part):
    file: str | None = None  # none for an image in memory


class _Sampler(_Part):
    name: str


class _Term(_Part):
    reward: str
    parameters: dict[str, Any]


class _Reward(_Part):
    terms: list[_Term]


class _Config(_Part):
    model: str
    sampler: _Sampler
    n: Count
    seed: int
    steps: Count
    device: str
    reward: _Reward | None = None
    guidance: Finite | None = None
    rescale: Finite | None = None
    strength: Finite | None = None
    image: _File | None = None
    mask: _File | None = None


class _Stats(_Part):
    network_rows: Count
    network_calls: Count
    reward_calls: Count
    seconds: dict[str, Finite]


class _Record(_Part):
    config: _Config
    stats: _Stats
    reward_name: str | None = None
    time_limit: Finite | None = None
    command: str = ""
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class Contents:
    """A run folder, read.

    Args:
        folder: The run folder.
        run: What is in `run.json`.
        rows: The samples, as they are in `samples.csv`.
        unguided: Those of the unguided model; none if the run has none to compare with.
        path: The value of the candidates at each step.
        objective: The run's objective; None to build it from `run.json` where it is needed.
    """

    folder: Path
    run: Mapping[str, Any]
    rows: Sequence[Row]
    unguided: Sequence[Row]
    path: Sequence[Row]
    objective: Objective | None = None

    @classmethod
    def read(cls, folder: Path, objective: Objective | None = None) -> "Contents":
        """Reads the files.

        Raises:
            GuidedError: A file is not what it should be.
            OSError: A file cannot be read.
        """
        rows, unguided, path = (load_rows(folder / f"{name}.csv") for name in ("samples", "unguided", "path"))
        return cls(folder, read_record(folder / "run.json"), rows, unguided, path, objective)

    @property
    def reward_name(self) -> str:
        """The name of the objective; empty where there is none."""
        return str(self.run.get("reward_name") or "")

    @property
    def learned(self) -> bool:
        """Whether candidates were chosen by a learned value."""
        return self.run["config"].get("value") is not None


def read_record(file: Path) -> dict[str, Any]:
    """What is in `run.json`.

    Raises:
        GuidedError: It is not JSON, or an entry that the report shows is missing or of another type.
    """
    content = read_json(file)
    try:
        _Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        entry, message = ".".join(map(str, first["loc"])), first["msg"].lower()
        given = "" if first["type"] == "missing" else f"is {reprlib.repr(first['input'])}, "
        raise GuidedError(f"{str(file)!r} is no record of a run: {entry} {given}{message}") from error
    return content
