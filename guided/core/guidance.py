r"""Guidance of one denoiser by another.

.. math:: \hat{y} = y_- + w \, (y_+ - y_-)

With the same network and an empty prompt as :math:`y_-` this is classifier-free guidance; with the network of a
negative-preference checkpoint it is (Self-)NPO. Clean means and log-probabilities are both guided this way; the
process renormalises the latter, and the mask is no token of theirs.

References:
    | Classifier-Free Diffusion Guidance (Ho et al., 2022)
    | https://arxiv.org/abs/2207.12598

    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), section 3.4: the rescale
    | https://arxiv.org/abs/2305.08891
"""

__all__ = ["NEGATIVE", "Guided", "paired", "sides"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guided.errors import GuidedError

NEGATIVE = "negative_"  # what the names of the negative side's conditions start with


def paired(positive: Mapping[str, Tensor], negative: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The conditions of both sides as one mapping."""
    return {**positive, **{NEGATIVE + name: c for name, c in negative.items()}}


def sides(cond: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The conditions of the positive and of the negative side; where the latter has none of its own, it shares them."""
    positive = {name: c for name, c in cond.items() if not name.startswith(NEGATIVE)}
    return positive, {name: cond.get(NEGATIVE + name, c) for name, c in positive.items()}


@dataclass(frozen=True)
class Guided:
    """A pure function of `(x, t, cond)`. Conditions of the negative side have names that start with `negative_`;
    where there is none, both sides have the same one.

    Arguments:
        positive: The denoiser that is guided.
        scale: The weight `w`; 1 is the positive denoiser alone, 0 the negative one (but for tokens that the positive
            one rules out: those stay impossible at any weight).
        negative: The negative denoiser. None is the positive one again: both sides are evaluated in one doubled call.

        rescale: The share `phi`, in [0, 1], to which the standard deviation of each row's raw prediction is brought
            back to that of the positive side.

    Raises:
        ValueError: The weight is not finite, the rescale is out of range, or the positive denoiser has no raw
            prediction (`raw` and `clean`, as :class:`guided.adapters.diffusers.prediction.Prediction` has).
    """

    positive: Callable[..., Tensor]
    scale: float = 7.5
    negative: Callable[..., Tensor] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rescale <= 1:
            raise GuidedError(f"the guidance rescale is {self.rescale}; it must be in [0, 1]")
        if self.rescale and not hasattr(self.positive, "raw"):
            raise GuidedError("this model has no raw prediction to rescale; leave the guidance rescale at 0")
        if not abs(self.scale) < float("inf"):
            raise GuidedError(f"guidance is {self.scale}; it must be a finite number")

    @property
    def cost(self) -> int:
        """Network rows for one row."""
        sides = (self.positive, self.negative or self.positive)
        return sum(getattr(side, "cost", 1) for side in sides)

    def __call__(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        mine, other = sides(cond)
        if self.negative is None or self.negative is self.positive:
            both = {name: torch.cat([mine[name], other[name]]) for name in mine}
            positive, negative = self.positive(torch.cat([x, x]), torch.cat([t, t]), **both).chunk(2)
        else:
            positive, negative = self.positive(x, t, **mine), self.negative(x, t, **other)
        y = self._mixed(positive, negative)
        return self._rescaled(x, t, y, positive) if self.rescale else y

    def _mixed(self, positive: Tensor, negative: Tensor) -> Tensor:
        """The formula, where a side may rule tokens out, as minus infinity.

        What the positive side rules out is out. What the negative one alone rules out is out below a weight of 1, if
        anything is left then; else it has nothing to compare with, and the positive side's word is taken.
        """
        out, alone = positive.isneginf(), negative.isneginf()
        y = torch.where(alone, positive, negative + self.scale * (positive - negative))
        if 0 <= self.scale < 1 and alone.any():
            either = out | alone
            out = torch.where(either.all(-1, keepdim=True), out, either)
        return torch.where(out, -torch.inf, y)

    def _rescaled(self, x: Tensor, t: Tensor, y: Tensor, positive: Tensor) -> Tensor:
        """The guided clean means `y` with the rescale, which is one of the raw prediction."""
        model: Any = self.positive
        raw, wanted = model.raw(x, t, y), model.raw(x, t, positive)
        axes = tuple(range(1, x.ndim))
        ratio = wanted.std(axes, keepdim=True) / raw.std(axes, keepdim=True)
        return model.clean(x, t, raw * (self.rescale * ratio + 1 - self.rescale))
