r"""Sequence logos: what is common to the samples at each position, in bits.

.. math:: I_i = \log_2 4 + \sum_b f_{ib} \log_2 f_{ib} - \frac{4 - 1}{2 n \ln 2}

is the information of position i, with the frequencies f of n sequences; the last term is what n sequences of no
preference would show by chance. The letters of a position share its height as their frequencies are.

References:
    | Sequence logos: a new way to display consensus sequences
    | (Schneider and Stephens, Nucleic Acids Research 18, 6097, 1990)

    | Information content of binding sites on nucleotide sequences
    | (Schneider, Stormo, Gold and Ehrenfeucht, Journal of Molecular Biology 188, 415, 1986)
"""

__all__ = ["information", "logo", "position_frequencies"]

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil, log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from guided.report.canvas import FAINT, GUIDED, NUCLEOTIDES, canvas, styled, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path

WIDTH = 9.6  # inches, the page's
ROW = 50  # positions in a row
LEAST = 0.05  # bits of an axis at least, so that chance is not shown large
INVISIBLE = 0.015  # of the axis' height: letters below are left out


def position_frequencies(sequences: Sequence[str], letters: str) -> NDArray[np.float64]:
    """The share of each letter at each position of n sequences of one length, with shape `(L, len(letters))`.

    Raises:
        ValueError: The sequences have several lengths, or there is none.
    """
    if len({len(sequence) for sequence in sequences}) != 1:
        raise ValueError(f"positions are those of sequences of one length, given {sorted(set(map(len, sequences)))}")
    table = np.array([list(sequence) for sequence in sequences])
    return np.stack([(table == letter).mean(axis=0) for letter in letters], axis=1)


def information(frequencies: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Bits at each position, with shape `(L,)`, at least 0, of frequencies `(L, 4)` that n sequences have."""
    entropy = -(frequencies * np.log2(np.where(frequencies > 0, frequencies, 1))).sum(axis=1)
    chance = (frequencies.shape[1] - 1) / (2 * n * log(2))
    return np.maximum(0, log(frequencies.shape[1], 2) - entropy - chance)


@styled
def logo(laws: Mapping[str, Sequence[str]], letters: str) -> str:
    """The logos of one or two sets of sequences, the first set's above the second's, fifty positions in a row.

    Arguments:
        laws: Sequences by the name that their logo gets, all of one length.
        letters: "ACGT" or "ACGU".
    """
    heights = {}
    for name, sequences in laws.items():
        frequencies = position_frequencies(sequences, letters)
        heights[name] = frequencies * information(frequencies, len(sequences))[:, None]
    length = max(map(len, heights.values()))
    top = max(LEAST, 1.08 * max(height.sum(axis=1).max() for height in heights.values()))
    rows = ceil(length / ROW)
    figure = canvas(WIDTH, rows * (0.62 * len(laws) + 0.42))
    blocks = figure.subfigures(rows, 1, squeeze=False, hspace=0.04)[:, 0]
    for start, block in zip(range(0, length, ROW), blocks, strict=True):
        pair = block.subplots(len(laws), 1, squeeze=False, sharex=True)[:, 0]
        for (name, height), axes in zip(heights.items(), pair, strict=True):
            _letters(axes, height[start : start + ROW], start, letters, top)
            axes.set(xlim=(start + 0.3, start + min(length, ROW) + 0.7), ylim=(0, top), ylabel="bits")
            color = FAINT if name == "unguided" else GUIDED
            axes.text(1.008, 0.5, name, transform=axes.transAxes, color=color, va="center")
            axes.tick_params(axis="x", length=2.5, labelbottom=axes is pair[-1])
        pair[-1].set_xticks([start + 1, *range(start + 10, min(start + ROW, length) + 1, 10)])
    pair[-1].set_xlabel("position (nt)")
    return to_svg(figure)


def _letters(axes: "Axes", heights: NDArray[np.float64], start: int, letters: str, top: float) -> None:
    """A stack of letters at each position, the most frequent on top; all of one letter are one shape."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    order = np.argsort(heights, axis=1, kind="stable")
    ends = np.take_along_axis(heights, order, axis=1).cumsum(axis=1)
    ends = np.take_along_axis(ends, np.argsort(order, axis=1), axis=1)
    for b, letter in enumerate(letters):
        seen = np.flatnonzero(heights[:, b] > INVISIBLE * top)
        shapes = [_stretched(letter, start + i + 0.53, ends[i, b] - heights[i, b], 0.94, heights[i, b]) for i in seen]
        if shapes:
            patch = PathPatch(Path.make_compound_path(*shapes), facecolor=NUCLEOTIDES[letter], lw=0)
            axes.add_artist(patch)  # add_patch would measure every curve for limits that are set anyway


def _stretched(letter: str, x: float, y: float, width: float, height: float) -> "Path":
    from matplotlib.path import Path

    glyph = _glyph(letter)
    return Path(np.asarray(glyph.vertices) * (width, height) + (x, y), glyph.codes)


@lru_cache(maxsize=8)
def _glyph(letter: str) -> "Path":
    """A letter whose box is the unit square, in the font that matplotlib brings along."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    shape = TextPath((0, 0), letter, size=10, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = shape.get_extents()
    return Path((np.asarray(shape.vertices) - (box.x0, box.y0)) / (box.width, box.height), shape.codes)
