"""What searches share: the best finished sample of each request, and requests that leave when their budget is spent."""

__all__ = ["Finished", "looking", "paying", "to_the_end"]

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.particles import Model, Particles
from guided.core.random import Streams
from guided.core.resampling import tilt
from guided.values.protocol import Value


class Finished:
    """The best finished sample of each of `B` requests so far: a search never returns less than the best it saw.

    Args:
        model: The model of the requests.
        streams: Their random streams.
        value: What judges finished samples.
    """

    def __init__(self, model: Diffusion, streams: Streams, value: Value) -> None:
        self.model, self.streams, self.value = model, streams, value
        B = len(streams)
        self.best = torch.full((B,), -torch.inf, dtype=torch.float64, device="cpu")
        self.x: Tensor = torch.empty(0, device="cpu")
        self._has = [False] * B

    def add(self, particles: Particles, requests: list[int] | None = None, v: Tensor | None = None) -> Tensor:
        """Judges finished particles of some requests, with shape `(b, N, *event)`, unless their values are given; their
        values, `(b, N)`.
        """
        v = self.value(particles, 0.0) if v is None else v
        requests = list(range(len(self._has))) if requests is None else requests
        top, at = tilt_best(v)
        if not len(self.x):
            self.x = particles.x.new_zeros(len(self._has), *particles.x.shape[2:])
        for row, (request, value, n) in enumerate(zip(requests, top.tolist(), at.tolist(), strict=True)):
            if not self._has[request] or value > self.best[request]:
                self.x[request], self.best[request] = particles.x[row, n], value
                self._has[request] = True
        return v

    def particles(self) -> Particles:
        """The best of each request, with shape `(B, 1, *event)`."""
        return Particles(self.model, self.x[:, None], self.model.steps, self.streams)


def tilt_best(v: Tensor) -> tuple[Tensor, Tensor]:
    """The best value of each request and its place, with shape `(B,)`; nan is never the best."""
    at = tilt(v, 0.0).argmax(1)
    return v.gather(1, at[:, None])[:, 0].nan_to_num(nan=-torch.inf), at


def to_the_end(particles: Particles) -> Particles:
    """Finishes chains with the model's own steps."""
    while not particles.done:
        particles = particles.propose()
    return particles


def looking(particles: Particles) -> tuple[list[int], list[int]]:
    """The requests whose budget lets these candidates be looked at, and the others, as positions."""
    going = particles.looking()
    return going, [b for b in range(len(particles.x)) if b not in {*going}]


def paying(model: Model, requests: list[int], rows: int, calls: int = 1) -> list[int]:
    """The places among some requests of those whose budget pays for so many rows through the model, and calls."""
    spending = model.requests.spending
    return [*range(len(requests))] if spending is None else spending.select(requests).open(rows * model.cost, calls)
