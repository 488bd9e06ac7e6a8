r"""One 64-bit number for each row of whole numbers, where the rows are.

.. math:: h(x) = \sum_i w_i x_i \bmod 2^{64}, \quad w_i \text{ odd and random}

Equal rows have equal numbers. Two rows that differ share one with probability at most :math:`2^{v - 63}`, where
:math:`2^v` divides all of their differences: :math:`10^{-14}` for all pairs of a hundred rows. That a hash told the
truth is for the user of it to prove, by comparing the rows.
"""

__all__ = ["row_hash"]

from functools import lru_cache

import torch
from torch import Tensor


def row_hash(x: Tensor, group: Tensor | None = None) -> Tensor:
    """The hashes of rows, with shape `(n,)`, int64, on their device; nothing waits for it.

    Args:
        x: Whole numbers, with shape `(n, *event)`.
        group: A further number of each row, with shape `(n,)`, such as its request.
    """
    keys = x.flatten(1)
    weights = _multipliers(keys.shape[1] + 1, x.device)
    h = (keys * weights[1:]).sum(1)  # int64 wraps
    return h if group is None else h + group * weights[0]


@lru_cache(maxsize=64)
def _multipliers(n: int, device: torch.device) -> Tensor:
    """`n` odd numbers of 64 bits, the same in every process."""
    generator = torch.Generator("cpu").manual_seed(0)
    numbers = torch.randint(-(2**63), 2**63 - 1, (n,), generator=generator, dtype=torch.int64, device="cpu")
    return (numbers | 1).to(device)
