"""The pretrained model's own samples."""

__all__ = ["Unguided"]

from dataclasses import dataclass

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.samplers.base import register_sampler
from guided.values.protocol import Value


@register_sampler("unguided")
@dataclass(frozen=True)
class Unguided:
    """Draws samples of the pretrained model, without a reward."""

    def __call__(self, model: Diffusion, value: Value | None, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`; the value is not used."""
        particles = model.start(streams)
        while not particles.done:
            particles = particles.propose()
        return particles
