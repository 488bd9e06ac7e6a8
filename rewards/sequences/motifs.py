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
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from guided.errors import GuidedError
from guided.rewards.sequences.composition import (
    Encoded,
    Given,
    Scores,
    encode,
    or_worst,
    real,
    valid_codes,
    windows_inside,
)
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


@register_reward("motif_count", modality="dna", takes="tokens", check=_check_count)
def motif_count(samples: Given, id: str, threshold: float = 1e-4) -> Scores | Tensor:
    """Number of sites of a motif, on both strands; -inf for an invalid sequence, 0 for one shorter than the motif.

    Args:
        samples: n sequences.
        id: A JASPAR id ("MA0114.4", "MA0114" for its newest version) or a transcription factor's name ("HNF4A").
        threshold: The p-value below which a window is a site.

    Raises:
        ImportError: pyjaspar is not installed.
        ValueError: There is no such motif, or no window can have such a p-value.
    """
    motif = find_motif(id)
    if isinstance(samples, Tensor):
        cutoff, strands = motif.cutoff(threshold), _strands(motif, samples.device, exact=True)
        count = torch.stack([(_scan_codes(samples, strand) >= cutoff).sum(1) for strand in strands]).sum(0)
        return torch.where(valid_codes(samples), count.to(real(samples.device)), -torch.inf)
    batch = encode(samples)
    return or_worst(batch, _count(batch, motif, threshold))


def _check_score(id: str) -> None:
    find_motif(id)


@register_reward("motif_score", modality="dna", takes="tokens", check=_check_score)
def motif_score(samples: Given, id: str) -> Scores | Tensor:
    """Log-odds of the best match of a motif on either strand, in bits; -inf for an invalid or too short sequence.

    Args:
        samples: n sequences.
        id: A JASPAR id ("MA0114.4", "MA0114" for its newest version) or a transcription factor's name ("HNF4A").

    Raises:
        ImportError: pyjaspar is not installed.
        ValueError: There is no such motif.
    """
    motif = find_motif(id)
    if isinstance(samples, Tensor):
        scores = [_scan_codes(samples, strand) for strand in _strands(motif, samples.device, exact=False)]
        nothing = scores[0].new_full((len(samples), 1), -torch.inf)  # of a sequence that is too short
        best = torch.cat([*scores, nothing], dim=1).amax(1)
        return torch.where(valid_codes(samples), best, -torch.inf)
    batch, matrix = encode(samples), motif.log_odds
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
    windows = max(0, batch.codes.shape[1] - matrix.shape[1] + 1)
    bases = np.pad(batch.codes & 3, ((0, 0), (0, 3)))
    fours = bases[:, :-3] << 6 | bases[:, 1:-2] << 4 | bases[:, 2:-1] << 2 | bases[:, 3:]
    scores = np.zeros((len(fours), windows), dtype=matrix.dtype)
    for j, table in enumerate(_tables(matrix)):
        scores += table[fours[:, 4 * j : 4 * j + windows]]
    return scores


def _tables(matrix: NDArray[Any]) -> NDArray[Any]:
    """The sums of a matrix `(4, w)` over four columns each, for every four bases, with shape `(ceil(w / 4), 256)`."""
    columns = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % 4))).T.reshape(-1, 4, 4)  # group, column, base
    a, b, c, d = columns.swapaxes(0, 1)
    sums = a[:, :, None, None, None] + b[:, None, :, None, None] + c[:, None, None, :, None] + d[:, None, None, None]
    return np.asarray(sums.reshape(-1, 256))


@dataclass(frozen=True)
class _Strand:
    """A motif on a device, on one strand: its width, and the tables of :func:`_tables`."""

    width: int
    tables: Tensor


@lru_cache(maxsize=256)
def _strands(motif: Motif, device: torch.device, exact: bool) -> tuple[_Strand, _Strand]:
    """The motif on both strands, in whole steps or as log-odds."""
    matrix = motif.steps if exact else motif.log_odds

    def strand(matrix: NDArray[Any]) -> _Strand:
        tables = torch.from_numpy(_tables(matrix))
        return _Strand(matrix.shape[1], tables.to(device, None if exact else real(device)))

    return strand(matrix), strand(matrix[::-1, ::-1])


def _scan_codes(codes: Tensor, strand: _Strand) -> Tensor:
    """The scores of all windows of codes `(n, L)`, as :func:`_scan`, on their device."""
    windows = max(0, codes.shape[1] - strand.width + 1)
    bases = F.pad(codes.long() & 3, (0, 3))
    fours = bases[:, :-3] << 6 | bases[:, 1:-2] << 4 | bases[:, 2:-1] << 2 | bases[:, 3:]
    scores = strand.tables.new_zeros(len(codes), windows)
    for j, table in enumerate(strand.tables):
        scores += table[fours[:, 4 * j : 4 * j + windows]]
    return scores
