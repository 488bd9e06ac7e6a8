r"""Randomness: one stream of numbers for each request.

The stream of request `i` is Philox keyed by `(seed, i)`, so what a request draws depends on the seed, on its own
index and on how much it has drawn before, that is on its step, and on nothing else: not on the other requests,
micro-batches, devices, processes or interruptions. Distinct keys give distinct streams, without the
collisions of hashed seeds. Numpy draws them on the CPU; on a GPU a kernel with the same counters draws the same uniform
numbers, and normal ones are drawn ahead in a thread while the GPU works.

What numbers are for is part of the key too, so that a value is not fitted on the noise that it will guide, nor a
sample judged by the noise that it was drawn by: each purpose adds its own numbers to the seed and the request.

References:
    | Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011)
    | https://doi.org/10.1145/2063384.2063405
"""

__all__ = ["PURPOSES", "Purpose", "Streams"]

from collections.abc import Sequence
from copy import copy
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from guided.core.random.device import DeviceNumbers
from guided.core.random.host import HostNumbers, Source
from guided.errors import GuidedError

Purpose: TypeAlias = Literal["samples", "rollouts", "likelihood", "training", "preferences"]

#: What each purpose adds to the seed and to the request of a key, modulo 2^64. No run has as many requests as 2^61.
PURPOSES: dict[str, tuple[int, int]] = {
    "samples": (0, 0),
    "likelihood": (0, 2**61),
    "preferences": (0, 2**62),
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
        keys = [((seed + shifts[0]) % 2**64, (request + shifts[1]) % 2**64) for request in requests]
        cuda = self.device.type == "cuda"
        self._source: Source = (DeviceNumbers if cuda else HostNumbers).of(keys, self.device)

    def __len__(self) -> int:
        return len(self._source)

    def take(self, index: Sequence[int]) -> "Streams":
        """The streams of some of the requests: draws from either move on those streams, and no others.

        Args:
            index: Which of the requests, as positions in 0..B-1, each at most once.

        Raises:
            GuidedError: A request is named twice.
        """
        if len(set(index)) < len(index):
            raise GuidedError(f"streams are taken of the requests {list(index)}; each must be there once")
        part = copy(self)
        part._source = self._source.take(index)
        return part

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), with shape `(B, *shape)`."""
        return self._source.draw("uniform", shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, with shape `(B, *shape)`."""
        return self._source.draw("normal", shape)

    def gumbel(self, *shape: int) -> Tensor:
        """Standard Gumbel numbers in double precision, on the CPU as values are, with shape `(B, *shape)`."""
        return self._source.draw("gumbel", shape)
