r"""Frequencies of k-mers, the words of length k in nucleotide sequences, and how well two sets of sequences agree.

.. math:: f_w = \frac{\text{occurrences of } w \text{ in all sequences}}{\text{occurrences of any word}}

Words overlap. They are in alphabetical order: word w has the index :math:`\sum_j w_j 4^{k-1-j}` with A, C, G, T = 0..3.
Pearson's correlation r of the frequencies in samples and in real sequences says how natural designed sequences are.

References:
    | Fine-Tuning Discrete Diffusion Models via Reward Optimization with Applications to DNA and Protein Design
    | (Wang et al., 2024), for this correlation with k = 3
    | https://arxiv.org/abs/2410.13643
"""

__all__ = ["correlation", "kmer_counts", "kmer_frequencies", "kmers"]

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from guided.errors import GuidedError, check_number

LONGEST = 12  # 4^12 words, 134 MB
CHUNK = 1 << 20  # letters that are counted at a time
NONE = 4
_CODES = np.full(256, NONE, dtype=np.uint8)
for _code, _letters in enumerate(("Aa", "Cc", "Gg", "TtUu")):
    _CODES[[ord(letter) for letter in _letters]] = _code


def kmers(k: int) -> list[str]:
    """The `4**k` words over A, C, G, T, in the order of the frequencies.

    Raises:
        GuidedError: k is not a whole number from 1 to 12.
    """
    return ["".join(word) for word in product("ACGT", repeat=_checked(k))]


def kmer_counts(sequences: Iterable[str], k: int, both_strands: bool = False) -> NDArray[np.int64]:
    """How often each word of k letters occurs, with shape `(4**k,)`, in sequences of any lengths.

    U is the same letter as T, lower case the same as upper case. A word with any other letter, N for instance, is left
    out, and nothing is read across the border of two sequences.

    Args:
        sequences: The sequences.
        k: The length of the words, 1 to 12.
        both_strands: Whether the reverse complements of the sequences are counted too.

    Raises:
        GuidedError: k is out of range, or the sequences are one string.
    """
    k = _checked(k)
    words, counts = 4**k, np.zeros(4**k, dtype=np.int64)
    if isinstance(sequences, str):
        raise GuidedError(f"k-mers are counted in a list of sequences, given one string: write [{sequences[:20]!r}]")
    for letters in _chunks(sequences):
        index = np.zeros(max(0, len(letters) - k + 1), dtype=np.int64)
        inside = np.ones(len(index), dtype=bool)
        for j in range(k):
            column = letters[j : j + len(index)]
            index = 4 * index + (column & 3)
            inside &= column != NONE
        counts += np.bincount(index[inside], minlength=words)
    return counts + reverse_complement(counts) if both_strands else counts


def kmer_frequencies(sequences: Iterable[str], k: int, both_strands: bool = False) -> NDArray[np.float64]:
    """The share of each word of k letters among all words, with shape `(4**k,)`; they sum to 1.

    Args: as of `kmer_counts`.

    Raises:
        GuidedError: There is no word of k letters in the sequences; or as `kmer_counts`.
    """
    counts = kmer_counts(sequences, k, both_strands)
    if not counts.any():
        raise GuidedError(f"there is no word of {k} letters over ACGT (or ACGU) in the sequences")
    return counts / counts.sum()


def reverse_complement(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """A table of words, with shape `(4**k,)`, for the other strand: entry w becomes that of w's reverse complement."""
    k = round(np.log2(table.size) / 2)
    flipped = table.reshape((4,) * k)[(slice(None, None, -1),) * k]  # A, C, G, T backwards are T, G, C, A
    return flipped.transpose().reshape(-1)


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation of two arrays with shape `(n,)`; nan where one of them is constant.

    Raises:
        GuidedError: They differ in length, or have fewer than two entries.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2:
        raise GuidedError(f"a correlation takes two arrays of n >= 2 numbers, given the shapes {x.shape} and {y.shape}")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def _checked(k: int) -> int:
    try:
        return check_number("k", k, int, least=1, most=LONGEST)
    except GuidedError as error:
        raise GuidedError(f"k-mers have 1 to {LONGEST} letters, given k = {k!r}") from error


def _chunks(sequences: Iterable[str]) -> Iterable[NDArray[np.uint8]]:
    """The codes of the letters, many sequences at a time; between any two there is the code of no letter."""
    part: list[str] = []
    size = 0
    for sequence in sequences:
        part.append(sequence)
        size += len(sequence) + 1
        if size >= CHUNK:
            yield _codes(part)
            part, size = [], 0
    yield _codes(part)


def _codes(sequences: Sequence[str]) -> NDArray[np.uint8]:
    return _CODES[np.frombuffer("-".join(sequences).encode("ascii", "replace"), dtype=np.uint8)]
