r"""Sequence logos: what is common to the samples at each position, in bits.

.. math:: I_i = \log_2 4 + \sum_b f_{ib} \log_2 f_{ib} - \frac{4 - 1}{2 n \ln 2}

is the information of position i, with the frequencies f of n sequences; the last term is the information that n random
sequences would show by chance. The letters at a position share its height in proportion to their frequencies.

References:
    | Sequence logos: a new way to display consensus sequences
    | (Schneider and Stephens, Nucleic Acids Research 18, 6097, 1990)

    | Information content of binding sites on nucleotide sequences
    | (Schneider, Stormo, Gold and Ehrenfeucht, Journal of Molecular Biology 188, 415, 1986)
"""

__all__ = ["information", "logo", "position_frequencies"]

from collections.abc import Mapping, Sequence
from math import ceil, log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError
from guided.report.canvas import FAINT, GUIDED, NUCLEOTIDES, canvas, label_text, styled, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
        raise GuidedError(f"positions are those of sequences of one length, given {sorted(set(map(len, sequences)))}")
    table = np.array([list(sequence) for sequence in sequences])
    return np.stack([(table == letter).mean(axis=0) for letter in letters], axis=1)


def information(frequencies: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Bits at each position, with shape `(L,)`, at least 0, of frequencies `(L, 4)` that n sequences have."""
    entropy = -(frequencies * np.log2(np.where(frequencies > 0, frequencies, 1))).sum(axis=1)
    chance = (frequencies.shape[1] - 1) / (2 * n * log(2))
    return np.maximum(0, log(frequencies.shape[1], 2) - entropy - chance)


@styled
def logo(sets: Mapping[str, Sequence[str]], letters: str) -> str:
    """The logos of one or two sets of sequences, the first set's above the second's, fifty positions in a row.

    Args:
        sets: Sequences by the name that their logo gets, all of one length.
        letters: "ACGT" or "ACGU".

    Raises:
        ImportError: logomaker is not installed.
    """
    _needs_logomaker()
    heights = {}
    for name, sequences in sets.items():
        frequencies = position_frequencies(sequences, letters)
        heights[name] = frequencies * information(frequencies, len(sequences))[:, None]
    length = max(map(len, heights.values()))
    top = max(LEAST, 1.08 * max(height.sum(axis=1).max() for height in heights.values()))
    rows = ceil(length / ROW)
    figure = canvas(WIDTH, rows * (0.62 * len(sets) + 0.42))
    blocks = figure.subfigures(rows, 1, squeeze=False, hspace=0.04)[:, 0]
    for start, block in zip(range(0, length, ROW), blocks, strict=True):
        pair = block.subplots(len(sets), 1, squeeze=False, sharex=True)[:, 0]
        for (name, height), axes in zip(heights.items(), pair, strict=True):
            _letters(axes, height[start : start + ROW], start, letters, top)
            axes.set(xlim=(start + 0.3, start + min(length, ROW) + 0.7), ylim=(0, top), ylabel="bits")
            color = FAINT if name == "unguided" else GUIDED
            axes.text(1.008, 0.5, label_text(name), transform=axes.transAxes, color=color, va="center")
            axes.tick_params(axis="x", length=2.5, labelbottom=axes is pair[-1])
        pair[-1].set_xticks([start + 1, *range(start + 10, min(start + ROW, length) + 1, 10)])
    pair[-1].set_xlabel("position (nt)")
    return to_svg(figure)


def _letters(axes: "Axes", heights: NDArray[np.float64], start: int, letters: str, top: float) -> None:
    """A stack of letters at each position, the most frequent on top."""
    import pandas
    from logomaker import Logo

    seen = np.where(heights > INVISIBLE * top, heights, 0.0)
    table = pandas.DataFrame(seen, columns=list(letters), index=range(start + 1, start + 1 + len(seen)))
    colors = {letter: NUCLEOTIDES[letter] for letter in letters}
    Logo(table, ax=axes, color_scheme=colors, font_name="DejaVu Sans", width=0.94, baseline_width=0)


def _needs_logomaker() -> None:
    try:
        import logomaker  # noqa: F401
    except ImportError as error:
        raise ImportError("logos need logomaker: pip install guided") from error
