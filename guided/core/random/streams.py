r"""Randomness: one stream of numbers for each request.

The stream of request `i` is Philox keyed by `(seed, i)`, so what a request draws depends on the seed, on its own
index and on how much it has drawn before, that is on its step, and on nothing else: not on the other requests,
nor on micro-batches, devices, processes or an interruption. Distinct keys give distinct streams, with no collisions
of hashed seeds. Numbers are drawn on the CPU and then moved.

References:
    | Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011)
    | https://doi.org/10.1145/2063384.2063405
"""

__all__ = ["Streams"]

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from guided.errors import GuidedError


class Streams:
    """The random streams of `B` requests. A stream moves on with every draw.

    Args:
        seed: The seed of the run, in [0, 2^64).
        requests: The indices of the requests.
        device: Where the numbers go.

    Raises:
        ValueError: The seed or an index is out of range.
    """

    def __init__(self, seed: int, requests: Sequence[int], device: torch.device | str = "cpu") -> None:
        for name, value in (("seed", seed), *(("request", i) for i in requests)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
                raise GuidedError(f"the {name} is {value!r}; it must be a whole number in [0, 2^64)")
        self.device = torch.device(device)
        self._generators = [
            np.random.Generator(np.random.Philox(key=np.array([seed, i], dtype=np.uint64))) for i in requests
        ]

    def __len__(self) -> int:
        return len(self._generators)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), with shape `(B, *shape)`."""
        return self._stack([g.random(shape, dtype=np.float32) for g in self._generators])

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, with shape `(B, *shape)`."""
        return self._stack([g.standard_normal(shape, dtype=np.float32) for g in self._generators])

    def gumbel(self, *shape: int) -> Tensor:
        """Standard Gumbel numbers in double precision, on the CPU as values are, with shape `(B, *shape)`."""
        return torch.from_numpy(np.stack([g.gumbel(size=shape) for g in self._generators]))

    def _stack(self, arrays: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device)
