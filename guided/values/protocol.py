"""What a sampler selects by: a value of particles; and the reward that it estimates."""

__all__ = ["Reward", "Value"]

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from guided.core.particles import Particles


class Reward(Protocol):
    """A plain batched function."""

    def __call__(self, samples: Any, /) -> Tensor | Sequence[float]:
        """Scores `n` decoded samples (images, SMILES, sequences) with `n` numbers; higher is better.

        One with a true attribute `prompted` is called with the samples and `n` prompts, or None.
        """
        ...


class Value(Protocol):
    """What a sampler selects by. A learned value implements the same call, and looks at `particles.x` and
    `particles.k` only: it then costs no network rows (SVDD-MC).
    """

    def __call__(self, particles: Particles, alpha: float) -> Tensor:
        """The values of the particles for the temperature `alpha`, with shape `(B, N)`.

        They are in double precision, on the CPU: a black box answers there, and not every accelerator has doubles.
        At the last step it is the reward itself.
        """
        ...
