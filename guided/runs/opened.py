"""Reading a run folder."""

__all__ = ["batches_in", "open_run"]

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, overload

import torch

from guided.errors import GuidedError
from guided.runs.engine import Batch, Run, Stats, StepValue
from guided.runs.paths import full
from guided.storage import read_json, read_rows

NOT_REWARDS = ("request", "seed", "sample", "reward_calls", "network_rows")  # columns that are not of the reward
ENDINGS = (".png", ".webp")


class Images(Sequence[Any]):
    """The images of a folder, opened on access; a video is the list of its frames."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, list(names)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> "Images": ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Images(self.folder, self.names[index])
        return _opened(self.folder / self.names[index])


def open_run(path: str | Path) -> Run:
    """Reads a run from its folder: samples, rewards, columns, cost and configuration.

    A run that was stopped has the samples so far. Images are opened on access.

    Raises:
        GuidedError: The folder holds no run.
    """
    folder = full(path)
    if not (folder / "run.json").is_file():
        raise GuidedError(f"{str(path)!r} holds no run: there is no run.json")
    run = read_json(folder / "run.json")
    if not {"config", "stats"} <= run.keys():
        raise GuidedError(f"{str(folder / 'run.json')!r} has no config and stats; it is not of a run")
    rows = read_rows(folder / "samples.csv")
    columns = _columns(rows)
    return Run(
        samples=_samples(folder, [row["sample"] for row in rows]),
        rewards=torch.tensor(columns.get("reward", [math.nan] * len(rows)), dtype=torch.float64),
        stats=Stats(**run["stats"]),
        columns=columns,
        path=[step for _, step in _path(folder)],
        config=run["config"],
    )


def batches_in(folder: Path) -> Iterator[Batch]:
    """The batches of a folder, each as it was drawn, except for its seconds."""
    rows = read_rows(folder / "samples.csv")
    if not rows:
        return
    size = read_json(folder / "run.json")["config"]["batch_size"]
    paths = {i: [step for _, step in steps] for i, steps in groupby(_path(folder), key=lambda pair: pair[0])}
    rows_before = calls_before = 0
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        spent, calls = (int(part[-1][name]) for name in ("network_rows", "reward_calls"))
        columns = _columns(part)
        yield Batch(
            requests=[int(row["request"]) for row in part],
            samples=list(_samples(folder, [row["sample"] for row in part])),
            rewards=columns.get("reward", [math.nan] * len(part)),
            columns=columns,
            stats=replace(Stats(), network_rows=spent - rows_before, reward_calls=calls - calls_before),
            path=paths.get(start // size, []),
        )
        rows_before, calls_before = spent, calls


def _columns(rows: Sequence[dict[str, str]]) -> dict[str, list[float]]:
    """The columns of the terms, then of the reward and of previews, in the order of a run that was just drawn."""
    names = [name for name in (rows[0] if rows else ()) if name not in NOT_REWARDS]
    names = [
        *(name for name in names if name not in ("reward", "preview")),
        *(n for n in ("reward", "preview") if n in names),
    ]
    return {name: [float(row[name]) for row in rows] for name in names}


def _path(folder: Path) -> list[tuple[int, StepValue]]:
    return [
        (int(row["batch"]), StepValue(int(row["step"]), float(row["mean"]), float(row["best"])))
        for row in read_rows(folder / "path.csv")
    ]


def _samples(folder: Path, names: list[str]) -> Sequence[Any]:
    """The samples; texts that are names of image files below `samples/` are images."""
    files = all(name.startswith("samples/") and name.endswith(ENDINGS) for name in names)
    return Images(folder, names) if names and files else names


def _opened(path: Path) -> Any:
    from PIL import Image, ImageSequence

    image = Image.open(path)
    if path.suffix == ".webp":
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    image.load()
    return image
