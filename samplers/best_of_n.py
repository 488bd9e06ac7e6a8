"""Best of N: N independent samples for each request, of which the best is kept."""

__all__ = ["BestOfN"]

from dataclasses import dataclass
from typing import ClassVar

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.core.resampling import tilt
from guided.errors import check_number
from guided.samplers.base import register_sampler
from guided.values.protocol import Value


@register_sampler("best-of-n")
@dataclass(frozen=True)
class BestOfN:
    """Draws N samples for each request and keeps the best: N K network rows, and N reward calls.

    With a budget it draws as many as are paid for, and at least one. When the seconds are over, one chain goes on.

    Args:
        N: The number of samples for each request.

    Raises:
        GuidedError: `N` is not a whole number, or below 1.
    """

    N: int = 10

    guides: ClassVar[bool] = False  # the value is asked at the end only

    def __post_init__(self) -> None:
        object.__setattr__(self, "N", check_number("N", self.N, int, least=1))

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        particles = model.start(streams, self._affordable(model))
        while not particles.done:
            particles = particles.propose()
            if model.requests.over():
                particles = particles.first()
        best = tilt(value(particles, 0.0), 0.0).argmax(1, keepdim=True)  # nan is never the best
        return particles.take(best)

    def _affordable(self, model: Diffusion) -> int:
        spending = model.requests.spending
        rows = (model.steps - model.requests.first_step(model.steps)) * model.cost
        return self.N if spending is None else spending.chains(self.N, rows)
