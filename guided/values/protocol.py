"""The protocols of values, by which samplers select particles, and of rewards, which values estimate."""

__all__ = ["Reward", "Value", "scored", "slope"]

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from guided.core.particles import Particles
from guided.errors import GuidedError


class Reward(Protocol):
    """A batched function of samples."""

    def __call__(self, samples: Any, /) -> Tensor | Sequence[float]:
        """Scores `n` decoded samples (images, SMILES, sequences) with `n` numbers; higher is better.

        A reward with a true attribute `prompted` is called with the samples and `n` prompts, or None. An
        :class:`~guided.scoring.objective.Objective` is given :class:`~guided.core.views.Views` of the samples.
        """
        ...


class Value(Protocol):
    """How good particles are, for a sampler to select by. A learned value uses `particles.x` and `particles.k` only, so
    it costs no network rows (SVDD-MC).
    """

    def __call__(self, particles: Particles, alpha: float) -> Tensor:
        """The values of the particles for the temperature `alpha`, with shape `(B, N)`.

        They are in double precision, on the CPU: a black-box reward returns numbers there, and not every accelerator
        has doubles. At the last step the value is the reward itself.
        """
        ...


def slope(value: Value, particles: Particles) -> tuple[Tensor, Tensor]:
    """The values of particles before the last step, with shape `(B, N)`, and their gradients.

    Those are with respect to real numbers, `(B, N, *event)`, or of tokens to their probabilities, `(B, N, L, V)`
    (:func:`guided.core.gradient.slope`). A particle that is not known has the value -inf and the gradient 0.

    Raises:
        GuidedError: The value has no gradient.
    """
    own = getattr(value, "slope", None)
    if own is None:
        raise GuidedError(f"{type(value).__name__} has no gradient; take the posterior mean of a reward that has one")
    v, g = own(particles)
    return v, g


def scored(value: Value, particles: Particles) -> tuple[Tensor, Tensor]:
    """The rewards of finished particles, with shape `(B, N)`, and the scores that they are made of, `(B, N, T)`.

    Raises:
        GuidedError: The value knows of no scores.
    """
    how = getattr(value, "scored", None)
    if how is None:
        raise GuidedError(f"a front needs the scores of several rewards, which {type(value).__name__} does not have")
    return how(particles)
