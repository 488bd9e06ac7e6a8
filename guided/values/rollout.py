r"""Values between the posterior mean and a rollout: a few long steps of the model before the look-ahead.

From :math:`x_k` the rest of the chain is taken in `steps` steps instead of :math:`K - k`, of which the last is the
look-ahead itself, so `steps = 1` is the posterior mean. It pays where one step from noise to data misleads. Each
particle costs `steps - 1` further network rows and no further reward calls.

References:
    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024), which names both ends
    | https://arxiv.org/abs/2408.08252
"""

__all__ = ["NAME", "Rollout", "read_rollout"]

from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.errors import GuidedError, check_number, nearest
from guided.names import read_value, split_name
from guided.values.posterior_mean import PosteriorMean

NAME = "rollout"


@dataclass(frozen=True)
class Rollout(PosteriorMean):
    """The reward of the look-ahead after a few steps of the model.

    Args:
        reward: The reward, in its own units.
        draws: The number of clean draws of the last look-ahead.
        evaluator: The micro-batches of decoded samples.
        steps: The number of network rows from a particle to its clean sample.
        drawn: Whether the steps are drawn; None where they have to be, that is for masked models. If not, they have no
            noise.

    Raises:
        GuidedError: A number is out of range.
    """

    steps: int = 3
    drawn: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", check_number("steps of a rollout", self.steps, int, least=1))
        if not (self.drawn is None or isinstance(self.drawn, bool)):
            raise GuidedError(f"drawn of a rollout is {self.drawn!r}; it must be true or false")

    @property
    def identity(self) -> dict[str, Any]:
        """What samples depend on in it, JSON-able."""
        return {NAME: {"steps": self.steps, "drawn": self.drawn}}

    @property
    def rows(self) -> int:
        return self.steps

    def check_slope(self, model: Diffusion) -> None:
        """Raises GuidedError: there is no gradient through its steps."""
        raise GuidedError(f"a {NAME} has no gradient; leave the value out, which then is the posterior mean")

    def check(self, model: Diffusion) -> None:
        """Raises GuidedError if the model has no longer steps, or none without noise where these are wanted."""
        model.process.strided(0, min(self.steps, model.steps))
        if self.drawn is False and model.process.tokens is not None:
            raise GuidedError(f"the steps of {model.name} are always drawn; leave out drawn=false")

    def _values(self, particles: Particles, alpha: float) -> Tensor:
        return super()._values(particles if particles.done else self.moved(particles), alpha)

    def moved(self, particles: Particles) -> Particles:
        """The particles before the last of the long steps, with shape `(B, N, *event)`."""
        model, steps = cast("Diffusion", particles.model), min(self.steps, particles.model.steps - particles.k)
        model = replace(model, process=model.process.strided(particles.k, steps, bool(self.drawn)))
        x, outputs = particles.x, particles.outputs
        for i in range(steps - 1):
            x = model.process.propose(x, outputs.y[outputs.index], i, 1, particles.streams)
            outputs = model.evaluate(x, i + 1)
        return Particles(model, x, steps - 1, particles.streams, outputs)


def read_rollout(text: str) -> Rollout | None:
    """The rollout of a text as "rollout?steps=3&drawn=true", without a reward; None for a text that names none.

    Raises:
        GuidedError: It has no such option.
    """
    if text.partition("?")[0] != NAME:
        return None
    _, given = split_name(text, repr(text), "option=value", loose=False) if "?" in text else (text, {})
    for name in given:
        if name not in ("steps", "drawn"):
            raise GuidedError(f"a rollout has no {name!r}{nearest(name, ('steps', 'drawn'))}; it takes steps and drawn")
    return Rollout(cast("Any", None), **{name: read_value(entry) for name, entry in given.items()})
