"""Transforms of raw scores, before the terms of an objective become one number.

A transform maps scores `(n,)` to scores `(n,)`, mostly in [0, 1], and leaves -inf alone: -inf means "the worst there
is" whatever the direction of the scale, and survives the aggregation. `Above` and `Below` make a term a constraint: its
score is 0 where it holds, and below 0 by how much it is violated.
"""

__all__ = ["Above", "Below", "Linear", "Sigmoid", "Transform", "Window", "is_constraint", "parse_transform", "spell"]

from collections.abc import Callable
from dataclasses import astuple, dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError

Array = NDArray[np.float64]
PENALTY = 10.0  # what a unit of violation takes off


@dataclass(frozen=True)
class Linear:
    """`clip((x - a) / (b - a), 0, 1)`: a becomes 0 and b becomes 1. With a > b, lower raw scores are better.

    Raises:
        ValueError: a equals b, or one of them is not finite.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        _finite(self)
        if self.a == self.b:
            raise GuidedError(f"linear=a,b needs two different numbers, given a = b = {self.a:g}")

    def __call__(self, x: Array) -> Array:
        """Scores `(n,)` -> scores `(n,)` in [0, 1]."""
        # + 0.0 makes -0.0 a plain 0
        return _keep_worst(x, lambda x: np.clip((x - self.a) / (self.b - self.a), 0.0, 1.0) + 0.0)


@dataclass(frozen=True)
class Sigmoid:
    """`1 / (1 + exp(-slope (x - mid)))`: 1/2 at mid; a negative slope makes lower raw scores better.

    Raises:
        ValueError: the slope is 0, or a number is not finite.
    """

    mid: float
    slope: float

    def __post_init__(self) -> None:
        _finite(self)
        if self.slope == 0:
            raise GuidedError("sigmoid=mid,slope needs a slope other than 0")

    def __call__(self, x: Array) -> Array:
        """Scores `(n,)` -> scores `(n,)` in [0, 1]."""
        # tanh form: no overflow however far x is from mid
        return _keep_worst(x, lambda x: 0.5 * (1.0 + np.tanh(0.5 * self.slope * (x - self.mid))))


@dataclass(frozen=True)
class Window:
    """1 for low <= x <= high; outside `exp(-d^2 / (2 softness^2))`, d the distance to the window, in the score's units.

    With softness 0 (the default) it is 0 outside.

    Raises:
        ValueError: low > high, softness < 0, or a number is not finite.
    """

    low: float
    high: float
    softness: float = 0.0

    def __post_init__(self) -> None:
        _finite(self)
        if self.low > self.high or self.softness < 0:
            raise GuidedError(
                f"window=low,high,softness needs low <= high and softness >= 0, "
                f"given {self.low:g},{self.high:g},{self.softness:g}"
            )

    def __call__(self, x: Array) -> Array:
        """Scores `(n,)` -> scores `(n,)` in [0, 1]."""
        return _keep_worst(x, self._inside)

    def _inside(self, x: Array) -> Array:
        distance = np.maximum(np.maximum(self.low - x, x - self.high), 0.0)
        if self.softness == 0:
            return np.asarray(distance == 0, dtype=np.float64)
        return np.asarray(np.exp(-0.5 * (distance / self.softness) ** 2))


@dataclass(frozen=True)
class _Constraint:
    """A bound on raw scores; `missing` says by how much scores are outside.

    Raises:
        ValueError: penalty is not above 0, or a number is not finite.
    """

    bound: float
    penalty: float = PENALTY

    def __post_init__(self) -> None:
        _finite(self)
        if self.penalty <= 0:
            raise GuidedError(f"{type(self).__name__.lower()}=bound,penalty needs a penalty above 0")

    def __call__(self, x: Array) -> Array:
        """Scores `(n,)` -> scores `(n,)`, at most 0."""
        return _keep_worst(x, lambda x: -self.penalty * np.maximum(self.missing(x), 0.0) + 0.0)

    def missing(self, x: Array) -> Array:
        """How far scores are outside the bound; below 0 inside."""
        raise NotImplementedError


class Above(_Constraint):
    """A constraint: 0 for x >= bound, and `-penalty (bound - x)` below it."""

    def missing(self, x: Array) -> Array:
        return self.bound - x


class Below(_Constraint):
    """A constraint: 0 for x <= bound, and `-penalty (x - bound)` above it."""

    def missing(self, x: Array) -> Array:
        return x - self.bound


Transform = Linear | Sigmoid | Window | Above | Below
TRANSFORMS: dict[str, tuple[type[Transform], str]] = {
    "linear": (Linear, "a,b"),
    "sigmoid": (Sigmoid, "mid,slope"),
    "window": (Window, "low,high[,softness]"),
    "above": (Above, "bound[,penalty]"),
    "below": (Below, "bound[,penalty]"),
}


def is_constraint(transform: Transform | None) -> bool:
    """Whether a transform makes its term a constraint."""
    return isinstance(transform, _Constraint)


def parse_transform(text: str) -> Transform:
    """The transform that "linear=a,b", "sigmoid=mid,slope" or "window=low,high[,softness]" spells.

    Constraints are "above=bound[,penalty]" and "below=bound[,penalty]".

    Raises:
        ValueError: another name, not numbers, or the wrong number of them.
    """
    name, _, values = text.partition("=")
    if name not in TRANSFORMS:
        accepted = ", ".join(f"{known}={form}" for known, (_, form) in TRANSFORMS.items())
        raise GuidedError(f"unknown transform {text!r}; it is one of {accepted}")
    kind, form = TRANSFORMS[name]
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError:
        raise GuidedError(f"{name} takes numbers as {name}={form}, given {text!r}") from None
    if not form.count(",") - form.count("[") < len(numbers) <= form.count(",") + 1:
        raise GuidedError(f"{name} takes {name}={form}, given {text!r}")
    return kind(*numbers)


def spell(transform: Transform) -> str:
    """The text from which `parse_transform` makes an equal transform."""
    return f"{type(transform).__name__.lower()}={','.join(repr(float(value)) for value in astuple(transform))}"


def _keep_worst(x: Array, transform: Callable[[Array], Array]) -> Array:
    worst = np.isneginf(x)
    return np.where(worst, -np.inf, transform(np.where(worst, 0.0, x)))


def _finite(transform: Any) -> None:
    if not all(isfinite(value) for value in astuple(transform)):
        raise GuidedError(f"a transform takes finite numbers, given {spell(transform)}")
