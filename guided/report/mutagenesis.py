r"""In-silico mutagenesis: what a reward would lose or gain if one base of a sequence were another.

.. math:: \Delta_{ib} = r(x_1 \dots x_{i-1}\, b\, x_{i+1} \dots x_L) - r(x)

3 L rewards for a sequence of L bases. The mean of a position's three changes is its effect: far below zero where the
sequence has a base that the reward is for.

References:
    Predicting effects of noncoding variants with deep learning-based sequence model
    (Zhou and Troyanskaya, Nature Methods 12, 931, 2015)
"""

__all__ = ["TooSlow", "changes", "effect_map"]

from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from guided.errors import GuidedError
from guided.report.canvas import FAINT, GUIDED, INK, NUCLEOTIDES, canvas, label_text, styled, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

SECONDS = 30.0  # that the rewards of one sequence's changes may take
LARGEST = 256  # rewards that are asked for at a time
WIDTH = 9.6  # inches, the page's
ROW = 100  # positions in a row


class TooSlow(GuidedError):
    """The rewards take longer than they may."""


def changes(
    sequence: str, score: Callable[[list[str]], ArrayLike], letters: str, seconds: float = SECONDS
) -> NDArray[np.float64]:
    """The changes of the reward, with shape `(L, len(letters))`; nan at the sequence's own bases.

    Batches of rewards grow from one on, so that the time is known before much of it is spent.

    Args:
        sequence: Of L bases.
        score: Maps n sequences to n rewards, higher is better.
        letters: "ACGT" or "ACGU".
        seconds: After which it gives up, between two batches.

    Raises:
        TooSlow: It takes longer.
        GuidedError: The sequence itself has no finite reward.
    """
    places = [(i, b) for i, own in enumerate(sequence) for b, letter in enumerate(letters) if letter != own]
    others = [sequence, *(sequence[:i] + letters[b] + sequence[i + 1 :] for i, b in places)]
    rewards: list[float] = []
    start = monotonic()
    while len(rewards) < len(others):
        if monotonic() - start > seconds:
            raise TooSlow(f"{len(rewards)} of {len(others)} rewards took {seconds:g} s")
        size = min(max(1, len(rewards)), LARGEST)  # 1, 1, 2, 4, ...
        rewards += np.asarray(score(others[len(rewards) : len(rewards) + size]), dtype=np.float64).tolist()
    if not np.isfinite(rewards[0]):
        raise GuidedError(f"the sequence itself has the reward {rewards[0]:g}")
    table = np.full((len(sequence), len(letters)), np.nan)
    rows, columns = np.array(places).T
    table[rows, columns] = np.array(rewards[1:]) - rewards[0]
    return table


@styled
def effect_map(sequence: str, table: NDArray[np.float64], letters: str, label: str) -> str:
    """The changes as a map, a hundred positions in a row, and each position's mean effect below.

    A change to a reward that failed (-inf) is grey; the colours end at the 99th percentile of the sizes.

    Args:
        sequence: Of L bases.
        table: Its changes, with shape `(L, len(letters))`.
        letters: "ACGT" or "ACGU".
        label: The reward's name.
    """
    mean, finite = mean_effect(table), np.abs(table[np.isfinite(table)])
    limit = float(np.quantile(finite, 0.99)) if finite.any() else 1.0
    rows, width = ceil(len(sequence) / ROW), min(ROW, len(sequence))
    figure = canvas(WIDTH, 1.9 * rows + 0.4)
    grid = figure.subplots(2 * rows, 1, squeeze=False, height_ratios=[1.25, 1] * rows)[:, 0]
    low, high = min(0.0, np.nanmin(mean, initial=0)), max(0.0, np.nanmax(mean, initial=0))
    margin = 0.08 * (high - low or 1.0)
    for start, cells, line in zip(range(0, len(sequence), ROW), grid[::2], grid[1::2], strict=True):
        part = slice(start, start + ROW)
        mesh = _cells(cells, sequence[part], table[part], letters, start, limit)
        edges = start + 0.5 + np.arange(len(mean[part]) + 1)
        line.stairs(mean[part], edges, fill=True, color=GUIDED, alpha=0.85, lw=0)
        line.plot(edges[[0, -1]], [0, 0], color=INK, lw=0.7)
        line.spines["bottom"].set_bounds(*edges[[0, -1]])
        line.set(ylim=(low - margin, high + margin), ylabel="mean change")
        line.set_xticks([start + 1, *range(start + 10, int(edges[-1]) + 1, 10)])
        for axes in (cells, line):
            axes.set_xlim(start + 0.5, start + width + 0.5)
    grid[-1].set_xlabel("position (nt)")
    ends = "both" if finite.any() and finite.max() > limit else "neither"
    figure.colorbar(
        mesh, ax=list(grid), aspect=22 * rows, extend=ends, pad=0.01, label=f"change of {label_text(label)}"
    )
    return to_svg(figure)


def _cells(
    axes: "Axes", sequence: str, table: NDArray[np.float64], letters: str, start: int, limit: float
) -> "QuadMesh":
    """A row of the map: its letters above, a dot in each cell of the sequence's own base."""
    columns, rows = start + 0.5 + np.arange(len(table) + 1), np.arange(len(letters) + 1) - 0.5
    own = [letters.index(letter) for letter in sequence]
    failed = np.isneginf(table)
    if failed.any():
        axes.pcolormesh(columns, rows, np.where(failed, 0.75, np.nan).T, cmap="gray", vmin=0, vmax=1)
    cells = np.ma.masked_invalid(table).T
    mesh = axes.pcolormesh(columns, rows, cells, cmap="RdBu", vmin=-limit, vmax=limit)
    axes.plot(start + 1 + np.arange(len(own)), own, ".", color=FAINT, ms=2.5, mew=0)
    for i, letter in enumerate(sequence):
        axes.text(start + 1 + i, -0.62, letter, color=NUCLEOTIDES[letter], fontsize=6.5, weight="bold", ha="center")
    axes.set_yticks(range(len(letters)), list(letters), fontsize=7)
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    return mesh


def mean_effect(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each position's finite changes, with shape `(L,)`; nan where there is none."""
    finite = np.isfinite(table)
    count = finite.sum(axis=1)
    return np.where(count > 0, np.where(finite, table, 0).sum(axis=1) / np.maximum(count, 1), np.nan)
