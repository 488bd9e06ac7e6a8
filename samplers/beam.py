r"""Beam search over the reverse chain.

Of each of `N` particles draw `M` candidates; the `N` best of all are the next beam:

.. math:: \{x_{k+1}^{(1)}, \dots, x_{k+1}^{(N)}\} = \mathrm{top}_N \, v_{k+1}(x_{k+1}^{(n, m)})

The width may change over the steps: wide at first and narrow at the end, or the other way round. Equal candidates, as
masked models draw, take one place of the beam as long as there are others.

References:
    | Dynamic Search for Inference-Time Alignment in Diffusion Models
    | (Li et al., 2025)
    | https://arxiv.org/abs/2503.02039
"""

__all__ = ["Beam"]

from dataclasses import dataclass

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.core.resampling import tilt
from guided.errors import check_number
from guided.samplers.base import register_sampler
from guided.samplers.finished import Finished, looking, to_the_end
from guided.samplers.schedule import Schedule, at, check_interval, check_schedule, look_ahead_steps
from guided.values.protocol import Value


@register_sampler("beam")
@dataclass(frozen=True)
class Beam:
    """Keeps the N best of all candidates of N particles, at every step, and the best at the end.

    With a constant width and noise in every step it takes N + N M (K - 1) network rows, and N M K reward calls; masked
    models fewer. Where the budget of a request is spent, the first of its beam goes to the end alone.

    Args:
        N: The width; a number, or a schedule: a tuple that is spread evenly over the steps.
        M: The number of candidates of each particle; a number or a schedule.
        every: Every j-th step compares candidates, counted back from the last one that has noise.
        interval: The part of the run, from 0 (noise) to 1 (data), in which steps do.

    Raises:
        GuidedError: A number is out of range.
    """

    N: Schedule[int] = 4
    M: Schedule[int] = 4
    every: int = 1
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("N", "M"):
            object.__setattr__(self, name, check_schedule(name, getattr(self, name), int, 1))
        object.__setattr__(self, "every", check_number("every", self.every, int, least=1))
        object.__setattr__(self, "interval", check_interval(self.interval))

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        K, looks = model.steps, look_ahead_steps(model.process, self.every, self.interval)
        finished, particles = Finished(model, streams, value), model.start(streams, self._width(model))
        requests = list(range(len(streams)))
        while not particles.done and requests:
            k = particles.k
            candidates = particles.propose(at(self.M, k, K) if k in looks else 1)
            going, others = looking(candidates)
            if others:
                alone = to_the_end(particles.select(others).first())
                finished.add(alone, [requests[b] for b in others])
                particles, candidates = (part.select(going) for part in (particles, candidates))
                requests = [requests[b] for b in going]
            if requests and k in looks:
                best = top(candidates, value(candidates, 0.0), at(self.N, k, K))
            particles = candidates.take(best) if requests and k in looks else candidates
        if requests:
            finished.add(particles, requests)
        return finished.particles()

    def _width(self, model: Diffusion) -> int:
        """The width at the start, as far as the budget pays for it."""
        spending, first = model.requests.spending, at(self.N, 0, model.steps)
        return first if spending is None else spending.chains(first, model.steps * model.cost)


def top(candidates: Particles, v: Tensor, N: int) -> Tensor:
    """The best N candidates of each request, the best first; copies last: `(B, n, *event)` to an index `(B, N)`."""
    B, n = v.shape
    owner = torch.arange(B, device=candidates.x.device).repeat_interleave(n)
    kept, _ = candidates.model.process.distinct(candidates.x.flatten(0, 1), owner)
    copies = torch.ones(B * n, dtype=torch.bool, device="cpu")
    copies[kept.cpu()] = False
    order = tilt(v, 1.0).sort(dim=1, descending=True, stable=True).indices
    last = copies.view(B, n).gather(1, order).to(torch.uint8).sort(dim=1, stable=True).indices
    return order.gather(1, last)[:, :N]
