"""Binding sites of transcription factors, found as FIMO does: windows whose log-odds score has a p-value below 1e-4.

The score's matrix and law are in `jaspar.py`. Both strands are searched; a window that is a site on both strands is
counted on both, and overlapping sites are counted each.

References:
    | FIMO: scanning for occurrences of a given motif
    | (Grant, Bailey and Noble, Bioinformatics 27, 1017, 2011)
"""

__all__ = ["MotifHits", "find_motif", "motif_count", "motif_score", "motif_table"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError
from guided.rewards.sequences.composition import Encoded, Samples, Scores, encode, or_worst, windows_inside
from guided.rewards.sequences.jaspar import Motif, find_motif
from guided.scoring.registry import register_reward


@dataclass(frozen=True)
class MotifHits:
    """How often a motif occurs in n sequences, a line of a motif table.

    Attributes:
        motif: The motif.
        counts: Its sites in each sequence, with shape `(n,)`.
    """

    motif: Motif
    counts: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Sites in a sequence, on average."""
        return float(self.counts.mean())

    @property
    def present(self) -> float:
        """The part of the sequences that have a site."""
        return float((self.counts > 0).mean())


def motif_table(sequences: Sequence[str], motifs: Sequence[str], threshold: float = 1e-4) -> list[MotifHits]:
    """The sites of each motif in each of n sequences, n at least 1; `motifs` and `threshold` as in `motif_count`.

    Raises:
        ImportError: pyjaspar is not installed.
        ValueError: A sequence is invalid, there is no such motif, or no window can have such a p-value.
    """
    batch = encode(sequences)
    if not len(sequences) or not batch.valid.all():
        wrong = [sequence for sequence, valid in zip(sequences, batch.valid, strict=True) if not valid]
        raise GuidedError(f"a motif table takes sequences over ACGT, given {repr(wrong[0])[:80] if wrong else 'none'}")
    return [MotifHits(motif, _count(batch, motif, threshold)) for motif in map(find_motif, motifs)]


def _check_count(id: str, threshold: float = 1e-4) -> None:
    find_motif(id).cutoff(threshold)


@register_reward("motif_count", modality="dna", check=_check_count)
def motif_count(samples: Samples, id: str, threshold: float = 1e-4) -> Scores:
    """Number of sites of a motif, on both strands; -inf for an invalid sequence, 0 for one shorter than the motif.

    Args:
        samples: n sequences.
        id: A JASPAR id ("MA0114.4", "MA0114" for its newest version) or a transcription factor's name ("HNF4A").
        threshold: The p-value below which a window is a site.

    Raises:
        ImportError: pyjaspar is not installed.
        ValueError: There is no such motif, or no window can have such a p-value.
    """
    batch = encode(samples)
    return or_worst(batch, _count(batch, find_motif(id), threshold))


def _check_score(id: str) -> None:
    find_motif(id)


@register_reward("motif_score", modality="dna", check=_check_score)
def motif_score(samples: Samples, id: str) -> Scores:
    """Log-odds of the best match of a motif on either strand, in bits; -inf for an invalid or too short sequence.

    Args:
        samples: n sequences.
        id: A JASPAR id ("MA0114.4", "MA0114" for its newest version) or a transcription factor's name ("HNF4A").

    Raises:
        ImportError: pyjaspar is not installed.
        ValueError: There is no such motif.
    """
    batch, matrix = encode(samples), find_motif(id).log_odds
    best = np.maximum(_scan(batch, matrix), _scan(batch, matrix[::-1, ::-1]))
    inside = windows_inside(batch, matrix.shape[1])
    return or_worst(batch, np.where(inside, best, -np.inf).max(axis=1, initial=-np.inf))


def _count(batch: Encoded, motif: Motif, threshold: float) -> NDArray[np.int64]:
    cutoff, inside = motif.cutoff(threshold), windows_inside(batch, motif.width)
    strands = (motif.steps, motif.steps[::-1, ::-1])
    return np.asarray(sum((inside & (_scan(batch, matrix) >= cutoff)).sum(axis=1) for matrix in strands))


def _scan(batch: Encoded, matrix: NDArray[Any]) -> NDArray[Any]:
    """The scores of all windows, `(n, L - w + 1)`, by a matrix `(4, w)`; of no meaning beyond a sequence's end.

    Four bases make one byte, which looks up the sum of four columns. Whole numbers stay exact, unlike in a convolution.
    """
    width = matrix.shape[1]
    windows = max(0, batch.codes.shape[1] - width + 1)
    bases = np.pad(batch.codes & 3, ((0, 0), (0, 3)))
    fours = bases[:, :-3] << 6 | bases[:, 1:-2] << 4 | bases[:, 2:-1] << 2 | bases[:, 3:]
    matrix = np.pad(matrix, ((0, 0), (0, -width % 4)))
    scores = np.zeros((len(fours), windows), dtype=matrix.dtype)
    for j in range(0, width, 4):
        a, b, c, d = matrix[:, j : j + 4].T
        table = (a[:, None, None, None] + b[:, None, None] + c[:, None] + d).ravel()
        scores += table[fours[:, j : j + windows]]
    return scores
