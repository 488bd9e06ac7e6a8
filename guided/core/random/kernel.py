"""Uniform numbers on a GPU in one kernel; the same numbers as :func:`guided.core.random.philox.uniform`."""

__all__ = ["uniform"]

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


@triton.jit
def _words(k0, k1, counter):  # type: ignore[no-untyped-def]
    zero = counter ^ counter
    c0, c1, c2, c3 = counter, zero, zero, zero
    for _ in tl.static_range(10):
        high_0, high_1 = tl.umulhi(c0, 0xD2E7470EE14C6C93), tl.umulhi(c2, 0xCA5A826395121157)
        low_0, low_1 = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = k0 + 0x9E3779B97F4A7C15, k1 + 0xBB67AE8584CAA73B
    return c0, c1, c2, c3


@triton.jit  # type: ignore[untyped-decorator]
def _uniform(out, keys, taken, held, n, stride, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    b = tl.program_id(1).to(tl.int64)
    j = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    first, kept = tl.load(taken + b * stride), tl.load(held + b * stride)
    half = (kept >= 0).to(tl.int64)
    index = tl.where((j == 0) & (half == 1), 2 * kept + 1, 2 * first + j - half)
    word = index >> 1
    zero = (j ^ j).to(tl.uint64)
    k0 = zero + tl.load(keys + 2 * b).to(tl.uint64, bitcast=True)
    k1 = zero + tl.load(keys + 2 * b + 1).to(tl.uint64, bitcast=True)
    c0, c1, c2, c3 = _words(k0, k1, ((word >> 2) + 1).to(tl.uint64))
    lane = word & 3
    w = tl.where(lane < 2, tl.where(lane == 0, c0, c1), tl.where(lane == 2, c2, c3))
    bits = (w >> (32 * (index & 1)).to(tl.uint64)) & 0xFFFFFFFF
    tl.store(out + b * n + j, (bits >> 8).to(tl.float32) * 5.9604644775390625e-08, mask=j < n)


def uniform(keys: Tensor, taken: Tensor, held: Tensor, n: int) -> Tensor:
    """The next `n` numbers of each stream; arguments and result as in :mod:`guided.core.random.philox`."""
    out = torch.empty(len(keys), n, device=keys.device)
    grid = (triton.cdiv(n, BLOCK), len(keys))  # a second axis has at most 65,535
    if out.numel():
        _uniform[grid](out, keys, taken, held, n, int(len(taken) > 1), BLOCK=BLOCK)
    return out
