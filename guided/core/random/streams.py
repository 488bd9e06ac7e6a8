r"""Randomness: one stream of numbers for each request.

The stream of request `i` is Philox keyed by `(seed, i)`, so what a request draws depends on the seed, on its own
index and on how much it has drawn before, that is on its step, and on nothing else: not on the other requests,
micro-batches, devices, processes or interruptions. Distinct keys give distinct streams, without the
collisions of hashed seeds. Numbers are drawn on the CPU and then moved.

What numbers are for is part of the key too, so that a value is not fitted on the noise that it will guide, nor a
sample judged by the noise that it was drawn by: each purpose adds its own numbers to the seed and the request.

References:
    | Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011)
    | https://doi.org/10.1145/2063384.2063405
"""

__all__ = ["PURPOSES", "Purpose", "Streams"]

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from guided.errors import GuidedError

Purpose: TypeAlias = Literal["samples", "rollouts", "likelihood", "training"]

#: What each purpose adds to the seed and to the request of a key, modulo 2^64. No run has as many requests as 2^61.
PURPOSES: dict[str, tuple[int, int]] = {
    "samples": (0, 0),
    "likelihood": (0, 2**61),
    "rollouts": (0, 2**63),
    "training": (2**63, 0),
}


class Streams:
    """The random streams of `B` requests. A stream moves on with every draw.

    Args:
        seed: The seed of the run, in [0, 2^64).
        requests: The indices of the requests.
        device: Where the numbers go.
        purpose: What the numbers are for; streams of two purposes have no numbers in common.

    Raises:
        GuidedError: The seed or an index is out of range, or there is no such purpose.
    """

    def __init__(
        self,
        seed: int,
        requests: Sequence[int],
        device: torch.device | str = "cpu",
        purpose: Purpose = "samples",
    ) -> None:
        if purpose not in PURPOSES:
            raise GuidedError(f"purpose is {purpose!r}; it is one of {', '.join(PURPOSES)}")
        for name, value in (("seed", seed), *(("request", i) for i in requests)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
                raise GuidedError(f"the {name} is {value!r}; it must be a whole number in [0, 2^64)")
        self.device = torch.device(device)
        shifts = PURPOSES[purpose]
        keys = ([(number + shift) % 2**64 for number, shift in zip((seed, i), shifts, strict=True)] for i in requests)
        self._generators = [np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64))) for key in keys]

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
