"""Reading a run folder."""

__all__ = ["batches_in", "open_run", "sample_files"]

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

import torch

from guided.core.sound import from_wav
from guided.errors import GuidedError, shown
from guided.report.record import Stored, read_record
from guided.runs.engine import Batch, Run, Stats, StepValue
from guided.runs.paths import full
from guided.storage import read_rows

TAIL = ("network_rows", "reward_calls")
FIRST = "first_call"
NOT_REWARDS = ("request", "seed", "sample", FIRST, *TAIL)  # columns that are not of the reward
Row: TypeAlias = Mapping[str, str]
Number = TypeVar("Number", int, float)
ENDINGS = (".png", ".webp", ".wav")


class Files(Sequence[Any]):
    """The images or sounds of a folder, opened on access; a video is the list of its frames."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, list(names)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> "Files": ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Files(self.folder, self.names[index])
        return _opened(self.folder / self.names[index])


def open_run(path: str | Path) -> Run:
    """Reads a run from its folder: samples, rewards, columns, cost and configuration.

    A run that was stopped has the samples so far. Images and sounds are opened on access.

    Raises:
        GuidedError: The folder holds no run.
    """
    folder = full(path)
    if not os.path.isfile(folder / "run.json"):  # unlike Path's, false for a name that no file can have
        raise GuidedError(f"{shown(str(path))} holds no run: there is no run.json")
    _, run = read_record(folder / "run.json", Stored)
    rows = read_rows(folder / "samples.csv")
    columns = _columns(folder, rows)
    return Run(
        samples=sample_files(folder, [_text(folder, row) for row in rows]),
        rewards=torch.tensor(columns.get("reward", [math.nan] * len(rows)), dtype=torch.float64, device="cpu"),
        stats=Stats(
            run.stats.network_rows,
            run.stats.network_calls,
            run.stats.reward_calls,
            run.stats.seconds,
            run.stats.cached,
            run.stats.stopped,
        ),
        columns=columns,
        path=[step for _, step in _path(folder)],
        config=run.config,
        first_call=_first(folder, rows),
    )


def batches_in(folder: Path) -> Iterator[Batch]:
    """The batches of a folder, each as it was drawn, except for its seconds and its curve."""
    rows = read_rows(folder / "samples.csv")
    if not rows:
        return
    size = read_record(folder / "run.json", Stored)[1].config["batch_size"]  # that of the run, as was checked
    paths = {i: [step for _, step in steps] for i, steps in groupby(_path(folder), key=lambda pair: pair[0])}
    rows_before = calls_before = 0
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        spent, calls = (_number(folder, "samples.csv", part[-1], name, int) for name in TAIL)
        columns = _columns(folder, part)
        yield Batch(
            requests=[_number(folder, "samples.csv", row, "request", int) for row in part],
            samples=sample_files(folder, [_text(folder, row) for row in part]),
            rewards=columns.get("reward", [math.nan] * len(part)),
            columns=columns,
            stats=replace(Stats(), network_rows=spent - rows_before, reward_calls=calls - calls_before),
            path=paths.get(start // size, []),
            first_call=_first(folder, part),
        )
        rows_before, calls_before = spent, calls


def _first(folder: Path, rows: Sequence[Row]) -> list[int]:
    """The call at which each sample was first scored; none where the file has no such column."""
    return [_number(folder, "samples.csv", row, FIRST, int) for row in rows if FIRST in row]


def _columns(folder: Path, rows: Sequence[Row]) -> dict[str, list[float]]:
    """The columns of the terms, then of the reward and of previews, in the order of a run that was just drawn."""
    names = [name for name in (rows[0] if rows else ()) if name not in NOT_REWARDS]
    names = [
        *(name for name in names if name not in ("reward", "preview")),
        *(n for n in ("reward", "preview") if n in names),
    ]
    return {name: [_number(folder, "samples.csv", row, name, float) for row in rows] for name in names}


def _path(folder: Path) -> list[tuple[int, StepValue]]:
    found = []
    for row in read_rows(folder / "path.csv"):
        batch, step = (_number(folder, "path.csv", row, name, int) for name in ("batch", "step"))
        mean, best = (_number(folder, "path.csv", row, name, float) for name in ("mean", "best"))
        found.append((batch, StepValue(step, mean, best)))
    return found


def _text(folder: Path, row: Row) -> str:
    if "sample" not in row:
        raise GuidedError(f"{str(folder / 'samples.csv')!r} has no column 'sample'")
    return row["sample"]


def _number(folder: Path, name: str, row: Row, column: str, kind: type[Number]) -> Number:
    """The number in a cell.

    Raises:
        GuidedError: There is none.
    """
    try:
        return kind(row[column])
    except (KeyError, ValueError) as error:
        what = f"has {column} {shown(row[column])}" if column in row else f"has no column {column!r}"
        accepted = "a whole number" if kind is int else "a number"
        raise GuidedError(f"{str(folder / name)!r} {what}; it must be {accepted}, as the run wrote it") from error


def sample_files(folder: Path, names: Sequence[Any]) -> Sequence[Any]:
    """The samples; texts that are names of files below `samples/` are what these hold."""
    files = all(isinstance(name, str) and name.startswith("samples/") and name.endswith(ENDINGS) for name in names)
    return Files(folder, names) if names and files else names


def _opened(path: Path) -> Any:
    if path.suffix == ".wav":
        return from_wav(path.read_bytes())
    from PIL import Image, ImageSequence

    image = Image.open(path)
    if path.suffix == ".webp":
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    image.load()
    return image
