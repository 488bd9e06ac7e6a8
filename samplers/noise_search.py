r"""Zero-order search in the noise of whole chains.

All random numbers of a chain, from the start to the last step, are a point in the space of noise. Around the best point
so far, `N` others are drawn and their chains run to the end; the best of all is the next centre. Normal numbers move as

.. math:: z' = \sqrt{1 - s^2} \, z + s \epsilon, \quad \epsilon \sim \mathcal{N}(0, I)

and uniform ones are drawn anew with probability `s`, so every chain is one that the model itself might have drawn. For
a deterministic model that is search in the starting noise.

References:
    | Inference-Time Scaling for Diffusion Models beyond Scaling Denoising Steps (Ma et al., 2025)
    | https://arxiv.org/abs/2501.09732
"""

__all__ = ["NoiseSearch"]

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import check_number
from guided.samplers.base import register_sampler
from guided.samplers.finished import Finished, tilt_best, to_the_end
from guided.values.protocol import Value


@register_sampler("noise-search")
@dataclass(frozen=True)
class NoiseSearch:
    """Changes the noise of the best chain so far, N times a round, and returns the best sample that it saw.

    It takes N K network rows and N reward calls a round; masked models fewer. It stops before a round that the budget
    of a request does not pay for; the first round is as large as it pays for.

    Args:
        N: The number of chains of a round.
        rounds: The number of rounds; the first draws from the model.
        step: The share `s` of fresh noise, above 0 and up to 1; at 1 it is best-of-N of all rounds.

    Raises:
        GuidedError: A number is out of range.
    """

    N: int = 8
    rounds: int = 8
    step: float = 0.3

    guides: ClassVar[bool] = False  # the value is asked at the end of chains only

    def __post_init__(self) -> None:
        for name in ("N", "rounds"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), int, least=1))
        object.__setattr__(self, "step", check_number("step", self.step, float, above=0, most=1))

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        finished, spending = Finished(model, streams, value), model.requests.spending
        rows = (model.steps - model.requests.first_step(model.steps)) * model.cost
        N = self.N if spending is None else spending.chains(self.N, rows)
        requests = list(range(len(streams)))
        centre: list[list[Tensor]] = [[] for _ in requests]
        for _ in range(self.rounds):
            noise: Any = Neighbours(streams.take(requests), [centre[b] for b in requests], self.step)
            before = finished.best.clone()
            _, at = tilt_best(finished.add(to_the_end(model.select(requests).start(noise, N)), requests))
            for b, n, drawn in zip(requests, at.tolist(), noise.drawn, strict=True):
                if not centre[b] or finished.best[b] > before[b]:
                    centre[b] = [numbers[n] for numbers in drawn]
            if spending is not None:
                requests = [requests[i] for i in spending.select(requests).open(N * rows, N)]
            if not requests:
                break
        return finished.particles()


class Neighbours:
    """Random numbers around those of one chain for each request, as `Streams` gives them.

    Args:
        streams: Where fresh numbers come from.
        centre: The numbers of each request's chain in their order, with shapes `(*)`; none to draw all afresh.
        step: The share of fresh noise.

    Attributes:
        drawn: The numbers of each request's N chains, with shapes `(N, *)`.
    """

    def __init__(self, streams: Streams, centre: list[list[Tensor]], step: float) -> None:
        self.streams, self.centre, self.step = streams, centre, step
        self.device = streams.device
        self.drawn: list[list[Tensor]] = [[] for _ in centre]

    def __len__(self) -> int:
        return len(self.streams)

    def take(self, index: list[int]) -> "Neighbours":
        """The numbers of some of the requests."""
        part = Neighbours(self.streams.take(index), [self.centre[i] for i in index], self.step)
        part.drawn = [self.drawn[i] for i in index]
        return part

    def normal(self, *shape: int) -> Tensor:
        """Normal numbers, with shape `(B, N, *)`."""
        fresh, old = self.streams.normal(*shape), self._old()
        return self._kept(fresh if old is None else (1 - self.step**2) ** 0.5 * old + self.step * fresh)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers, with shape `(B, N, *)`."""
        fresh, old = self.streams.uniform(*shape), self._old()
        return self._kept(fresh if old is None else torch.where(self.streams.uniform(*shape) < self.step, fresh, old))

    def _old(self) -> Tensor | None:
        """The next numbers of the centres, with shape `(B, 1, *)`."""
        if not self.centre[0]:
            return None
        place = len(self.drawn[0])
        return torch.stack([numbers[place] for numbers in self.centre])[:, None]

    def _kept(self, numbers: Tensor) -> Tensor:
        for own, drawn in zip(numbers, self.drawn, strict=True):
            drawn.append(own)
        return numbers
