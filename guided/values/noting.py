"""A value that takes note of what another one gives, in whichever way a sampler asks for it."""

__all__ = ["Noting"]

from abc import ABC, abstractmethod

from torch import Tensor

from guided.core.particles import Particles
from guided.values.protocol import Value, scored, slope


class Noting(ABC):
    """Passes on the values, the gradients and the scores of the value inside, as they are.

    Attributes:
        value: The value inside.
    """

    value: Value

    def __call__(self, particles: Particles, alpha: float) -> Tensor:
        v = self.value(particles, alpha)
        self.note(particles, v)
        return v

    def slope(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """The values and their gradients, for samplers that follow them."""
        v, g = slope(self.value, particles)
        self.note(particles, v)
        return v, g

    def scored(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """The rewards and the scores of finished particles."""
        v, scores = scored(self.value, particles)
        self.note(particles, v)
        return v, scores

    @abstractmethod
    def note(self, particles: Particles, v: Tensor) -> None:
        """Takes note of the values of particles, with shape `(B, N)`."""
