r"""The predictions of diffusers' networks, as clean means.

With :math:`x_t = \alpha x + \sigma \epsilon`:

    epsilon        the noise                 x = (x_t - sigma y) / alpha
    v_prediction   alpha epsilon - sigma x   x = alpha x_t - sigma y
    flow           epsilon - x               x = x_t - sigma y      (alpha = 1 - sigma)
    reversed_flow  x - epsilon               x = x_t + sigma y      (alpha = 1 - sigma)
    sample         the clean sample          x = y

References:
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022)
    | https://arxiv.org/abs/2202.00512
"""

__all__ = ["PREDICTIONS", "Prediction", "target_of"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from guided.adapters.diffusers.levels import Levels
from guided.errors import GuidedError

PREDICTIONS = ("epsilon", "v_prediction", "flow", "reversed_flow", "sample")


def target_of(scheduler: Any, levels: Levels) -> str:
    """What the network of a scheduler predicts, one of `PREDICTIONS` if it is known."""
    if levels.ratios is None:
        return "reversed_flow" if levels.reversed else "flow"
    return str(scheduler.config.get("prediction_type", "epsilon"))


@dataclass(frozen=True)
class Prediction:
    """A network as a denoiser.

    Args:
        network: Maps noisy rows `(n, *event)` at times `(n,)`, with conditions, to the raw prediction `(n, *event)`.
        levels: Alpha and sigma of a time.
        target: What the network predicts, one of `PREDICTIONS`.

    Raises:
        GuidedError: The target is unknown.
    """

    network: Callable[..., Tensor]
    levels: Levels
    target: str

    def __post_init__(self) -> None:
        if self.target not in PREDICTIONS:
            raise GuidedError(f"the network predicts {self.target!r}; it is one of {', '.join(PREDICTIONS)}")

    def __call__(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.clean(x, t, self.network(x, t, **cond))

    def clean(self, x: Tensor, t: Tensor, raw: Tensor) -> Tensor:
        """The clean mean of a raw prediction, rows of shape `(n, *event)`."""
        alpha, sigma = self._levels(x, t)
        if self.target == "epsilon":
            return (x - sigma * raw) / alpha
        if self.target == "v_prediction":
            return alpha * x - sigma * raw
        if self.target == "reversed_flow":
            return x + sigma * raw
        return x - sigma * raw if self.target == "flow" else raw

    def raw(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The raw prediction of a clean mean, rows of shape `(n, *event)`."""
        alpha, sigma = self._levels(x, t)
        if self.target == "epsilon":
            return (x - alpha * y) / sigma
        if self.target == "v_prediction":
            return (alpha * x - y) / sigma
        if self.target == "reversed_flow":
            return (y - x) / sigma
        return (x - y) / sigma if self.target == "flow" else y

    def _levels(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = (level.view(-1, *[1] * (x.ndim - 1)) for level in self.levels(t))
        return alpha, sigma
