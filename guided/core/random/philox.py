r"""Philox4x64-10, word for word as numpy's, on any device.

Word `w` of a stream is lane `w mod 4` of block `w // 4`, whose counter is `w // 4 + 1` because numpy counts before it
makes a block. A number in single precision takes half a word, the low half first; one in double precision takes a whole
word and leaves a half that is still to be used where it is.

References:
    | Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011)
    | https://doi.org/10.1145/2063384.2063405
"""

__all__ = ["INCREMENTS", "MULTIPLIERS", "signed", "uniform", "words"]

import torch
from torch import Tensor

MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
INCREMENTS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10
LOW = 0xFFFFFFFF


def signed(number: int) -> int:
    """The number in [-2^63, 2^63) that is equal modulo 2^64, as int64 holds it."""
    return (number + 2**63) % 2**64 - 2**63


def words(keys: Tensor, index: Tensor) -> Tensor:
    """The words of streams.

    Args:
        keys: Their keys, with shape `(B, 2)`, as int64.
        index: The numbers of the words, with shape `(B, n)`.

    Returns:
        The words, with shape `(B, n)`, as int64.
    """
    key = list(keys[:, None].unbind(-1))
    zero = torch.zeros_like(index)
    c = [(index >> 2) + 1, zero, zero, zero]
    for _ in range(ROUNDS):
        (high_0, low_0), (high_1, low_1) = (_product(m, c[i]) for m, i in zip(MULTIPLIERS, (0, 2), strict=True))
        c = [high_1 ^ c[1] ^ key[0], low_1, high_0 ^ c[3] ^ key[1], low_0]
        key = [k + signed(step) for k, step in zip(key, INCREMENTS, strict=True)]
    return torch.stack(c, -1).gather(-1, (index & 3)[..., None])[..., 0]


def uniform(keys: Tensor, taken: Tensor, held: Tensor, n: int) -> Tensor:
    """The next `n` numbers in [0, 1), in single precision, of each stream.

    Args:
        keys: The keys, with shape `(B, 2)`, as int64.
        taken: How many words were taken, with shape `(B,)` or `(1,)`.
        held: The word whose high half is still to be used, -1 for none, with the same shape.
        n: How many.

    Returns:
        The numbers, with shape `(B, n)`.
    """
    half = (held >= 0).long()[:, None]
    j = torch.arange(n, device=keys.device)
    index = torch.where((j == 0) & (half == 1), 2 * held[:, None] + 1, 2 * taken[:, None] + j - half)
    index = index.expand(len(keys), n)
    halves = words(keys, index >> 1) >> 32 * (index & 1) & LOW
    return (halves >> 8).float() * 2.0**-24


def _product(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """The high and the low word of the product of two unsigned words."""
    a0, a1, b0, b1 = a & LOW, a >> 32, b & LOW, b >> 32 & LOW
    low, cross, other = a0 * b0, a0 * b1, a1 * b0
    middle = (low >> 32 & LOW) + (cross & LOW) + (other & LOW)
    return a1 * b1 + (cross >> 32 & LOW) + (other >> 32 & LOW) + (middle >> 32), b * signed(a)
