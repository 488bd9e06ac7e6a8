r"""Guidance of one denoiser by another.

.. math:: \hat{y} = y_- + w \, (y_+ - y_-)

With the same network and an empty prompt as :math:`y_-` this is classifier-free guidance; with the network of a
negative-preference checkpoint it is (Self-)NPO. Clean means and log-probabilities are both guided this way; the
process renormalises the latter, which do not include the mask.

References:
    | Classifier-Free Diffusion Guidance (Ho et al., 2022)
    | https://arxiv.org/abs/2207.12598

    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), section 3.4: the rescale
    | https://arxiv.org/abs/2305.08891
"""

__all__ = ["Conditions", "Guidance", "Guided", "Guider"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from guided.core.denoiser import Denoiser
from guided.errors import GuidedError


@dataclass(frozen=True)
class Conditions:
    """What rows are conditioned on, by name, on both sides of guidance.

    Args:
        positive: The conditions of the prompts, with shape `(n, *)` each.
        negative: The conditions of the negative side, under the same names; None where there is only one side, or
            both sides share the conditions.

    Raises:
        GuidedError: The two sides have conditions of different names.
    """

    positive: Mapping[str, Tensor] = field(default_factory=dict)
    negative: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        if self.negative is not None and self.negative.keys() != self.positive.keys():
            given = [", ".join(sorted(side)) or "none" for side in (self.negative, self.positive)]
            raise GuidedError(
                f"the conditions of the negative side are {given[0]}; they must be those of the positive, {given[1]}"
            )

    def __bool__(self) -> bool:
        """Whether there are any: if so, equal rows of two requests may have different outputs."""
        return bool(self.positive)

    def take(self, index: Tensor | list[int]) -> "Conditions":
        """The conditions of the rows at `index`, with shape `(m,)`."""
        sides = (self.positive, self.negative)
        return Conditions(*(side and {name: c[index] for name, c in side.items()} for side in sides))  # type: ignore[arg-type]

    def ask(self, denoiser: Denoiser, x: Tensor, t: Tensor) -> Tensor:
        """The output of a denoiser that takes both sides, such as :class:`Guided`, with these conditions."""
        negative = () if self.negative is None else (self.negative,)
        return denoiser(x, t, *negative, **self.positive)


class Guider(Protocol):
    """Guidance by another formula, which may differ from step to step."""

    @property
    def description(self) -> Mapping[str, Any]:
        """All that samples depend on in it, JSON-able."""
        ...

    @property
    def remembers(self) -> str:
        """Why no particles may branch: it keeps something of each row from step to step; "" if it does not."""
        ...

    def fresh(self) -> "Guider":
        """The same for another run: nothing is kept yet."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Only these of a step's rows go on, with shape `(n,)`, in this order."""
        ...

    def around(self, positive: Denoiser, negative: Denoiser | None, times: Sequence[float]) -> Denoiser:
        """A denoiser that takes both sides, as :class:`Guided` does; `at(rows, n)` is it for some of a step's rows.

        Args:
            positive: The denoiser that is guided.
            negative: The negative denoiser; None for the positive one again.
            times: The times of the steps that are taken, and that of the data.
        """
        ...


@dataclass(frozen=True)
class Guidance:
    """The weight of guidance, and the share of guidance rescale; or a guider, which has its own.

    Args:
        scale: The weight.
        rescale: The share of rescale.
        guider: The guider.
        times: The times of a whole run's steps, and that of the data: a guider is told the step, also where the steps
            of a look-ahead are longer.
    """

    scale: float = 1.0
    rescale: float = 0.0
    guider: Guider | None = None
    times: Sequence[float] = ()


@dataclass(frozen=True)
class Guided:
    """A pure function of rows, times and the conditions of both sides.

    Args:
        positive: The denoiser that is guided.
        scale: The weight `w`; 1 is the positive denoiser alone, 0 the negative one (except that tokens which the
            positive one rules out stay impossible at any weight).
        negative: The negative denoiser. None is the positive one again: both sides are evaluated in one doubled call.
        rescale: The share `phi`, in [0, 1], to which the standard deviation of each row's raw prediction is brought
            back to that of the positive side.

    Raises:
        GuidedError: The weight is not finite, the rescale is out of range, or the positive denoiser has no raw
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

    def __call__(self, x: Tensor, t: Tensor, negative: Mapping[str, Tensor] | None = None, /, **cond: Tensor) -> Tensor:
        """The guided output for rows `(n, *event)` at times `(n,)`.

        Args:
            x: The rows.
            t: Their times.
            negative: The conditions of the negative side, with shape `(n, *)` each; None for those of the positive.
            cond: The conditions of the positive side, with shape `(n, *)` each.
        """
        other = cond if negative is None else negative
        if self.negative is None or self.negative is self.positive:
            both = {name: torch.cat([c, other[name]]) for name, c in cond.items()}
            positive, opposite = self.positive(torch.cat([x, x]), torch.cat([t, t]), **both).chunk(2)
        else:
            positive, opposite = self.positive(x, t, **cond), self.negative(x, t, **other)
        mixed = self._mixed(positive, opposite)
        return self._rescaled(x, t, mixed, positive) if self.rescale else mixed

    def _mixed(self, positive: Tensor, negative: Tensor) -> Tensor:
        """The guided output, where either side may rule tokens out by minus infinity.

        A token that the positive side rules out stays out. One that only the negative side rules out is out at weights
        below 1, unless no token would be left; at other weights it keeps the positive side's log-probability.
        """
        out, alone = positive.isneginf(), negative.isneginf()
        y = torch.where(alone, positive, negative + self.scale * (positive - negative))
        if self.scale < 1 and alone.any():
            either = out | alone
            out = torch.where(either.all(-1, keepdim=True), out, either)
        return torch.where(out, -torch.inf, y)

    def _rescaled(self, x: Tensor, t: Tensor, y: Tensor, positive: Tensor) -> Tensor:
        """The guided clean means `y`, rescaled as raw predictions."""
        model: Any = self.positive
        raw, wanted = model.raw(x, t, y), model.raw(x, t, positive)
        axes = tuple(range(1, x.ndim))
        ratio = wanted.std(axes, keepdim=True) / raw.std(axes, keepdim=True)
        return model.clean(x, t, raw * (self.rescale * ratio + 1 - self.rescale))
