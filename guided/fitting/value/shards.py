"""The files of rollouts, one for each batch of trajectories, checked against the model before they are used.

A file may be torn, from another run, or from anyone. Names, shapes and types are read from the headers of its arrays
before memory is allocated; then tokens, steps and rewards are checked. A file that is not as expected is drawn again.
"""

__all__ = ["Arrays", "Layout", "load", "save", "shard", "smallest"]

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guided.core.diffusion import Diffusion
from guided.storage import whole

Arrays = dict[str, NDArray[np.generic]]
Shapes = dict[str, tuple[tuple[int, ...], "np.dtype[np.generic]"]]


@dataclass(frozen=True)
class Layout:
    """What the arrays of a batch look like.

    Args:
        event: The shape of a row.
        tokens: The number of tokens, the mask included; None for real numbers.
        steps: The number of steps K.
        states: The number of states S of each trajectory.
        candidates: The number of candidates M' of each next state.
    """

    event: tuple[int, ...]
    tokens: int | None
    steps: int
    states: int
    candidates: int

    @classmethod
    def of(cls, model: Diffusion, states: int, candidates: int) -> "Layout":
        """The layout for a model."""
        process = model.process
        return cls(process.event, process.tokens, model.steps, min(states, model.steps), candidates)

    def shapes(self, B: int) -> Shapes:
        """The shape and type of each array of B trajectories."""
        S, M, x = self.states, self.candidates, np.dtype(smallest(self.tokens))
        found: Shapes = {
            "x": ((B, S, *self.event), x),
            "k": ((B, S), np.dtype(np.int32)),
            "r": ((B, M), np.dtype(np.float64)),
            "rows": ((), np.dtype(np.int64)),
        }
        return found | ({"following": ((B, S, M, *self.event), x)} if M > 1 else {})

    def fits(self, arrays: Mapping[str, NDArray[np.generic]]) -> bool:
        """Whether tokens, steps and rewards are possible ones."""
        k = arrays["k"].astype(np.int64)
        rewards = arrays["r"].astype(np.float64)
        return bool(
            all(self._rows(arrays[name]) for name in ("x", "following") if name in arrays)
            and ((k >= 0) & (k < self.steps)).all()
            and (np.diff(k, axis=1) > 0).all()
            and not np.isnan(rewards).any()
            and (rewards < np.inf).all()
            and int(arrays["rows"]) >= 0
        )

    def _rows(self, rows: NDArray[np.generic]) -> bool:
        if self.tokens is None:
            return bool(np.isfinite(rows.astype(np.float32)).all())
        tokens = rows.astype(np.int64)
        return bool(((tokens >= 0) & (tokens < self.tokens)).all())


def smallest(tokens: int | None) -> type[np.generic]:
    """The smallest type that holds states of this many tokens; float32 for real numbers."""
    if tokens is None:
        return np.float32
    return next(dtype for dtype in (np.uint8, np.int16, np.int32) if tokens - 1 <= np.iinfo(dtype).max)


def shard(path: Path, index: int) -> Path:
    """The file of a batch."""
    return path / f"{index:05d}.npz"


def load(file: Path, count: int, layout: Layout) -> Arrays | None:
    """The arrays of the first `count` trajectories; None if the file is missing, torn, or of another layout."""
    try:
        with zipfile.ZipFile(file) as archive:
            given = {entry.removesuffix(".npy"): _header(archive, entry) for entry in archive.namelist()}
        B = next(iter(given["r"][0]), 0)
        if count > B or given != layout.shapes(B):
            return None
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except Exception:  # a torn archive can raise anything
        return None
    if not layout.fits(found):
        return None
    return {name: array[:count] if array.ndim else array[None] for name, array in found.items()}


def _header(archive: zipfile.ZipFile, entry: str) -> tuple[tuple[int, ...], "np.dtype[np.generic]"]:
    """The shape and the type of an array, which is not read."""
    with archive.open(entry) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("of another version of numpy's format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    return shape, dtype


def save(file: Path, arrays: Arrays) -> None:
    """Writes a batch whole."""
    with whole(file) as part, part.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the first for allow_pickle
