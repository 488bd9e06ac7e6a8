"""How raw scores become one reward: a transform of each score, then a weighted mean or product of the terms.

Letters: T terms, n samples. A transform maps scores `(n,)` to scores `(n,)`, mostly in [0, 1], and leaves -inf alone:
-inf means "the worst there is" whatever the direction of the scale, and survives the aggregation.
"""

__all__ = ["Linear", "Sigmoid", "Transform", "Window", "parse_transform", "spell", "weighted_mean", "weighted_product"]

from collections.abc import Callable
from dataclasses import astuple, dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError

Array = NDArray[np.float64]


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


Transform = Linear | Sigmoid | Window
TRANSFORMS: dict[str, tuple[type[Linear] | type[Sigmoid] | type[Window], str]] = {
    "linear": (Linear, "a,b"),
    "sigmoid": (Sigmoid, "mid,slope"),
    "window": (Window, "low,high[,softness]"),
}


def parse_transform(text: str) -> Transform:
    """The transform that "linear=a,b", "sigmoid=mid,slope" or "window=low,high[,softness]" spells.

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


def weighted_mean(scores: Array, weights: Array) -> Array:
    """`sum_i w_i s_i / sum_i w_i`: scores `(T, n)`, weights `(T,)`, all > 0, -> `(n,)`; -inf in a term gives -inf."""
    # no matrix product: its rounding depends on the place in the batch, and equal samples must have equal rewards
    return np.asarray(((weights / weights.sum())[:, None] * scores).sum(axis=0))


def weighted_product(scores: Array, weights: Array) -> Array:
    """`prod_i s_i^(w_i / sum w)`: scores `(T, n)` and weights `(T,)`, all > 0, -> `(n,)`; -inf in a term gives -inf.

    Raises:
        ValueError: a score is negative and is not -inf.
    """
    worst = np.isneginf(scores)
    if np.any((scores < 0) & ~worst):
        raise GuidedError(f"a weighted product takes scores >= 0, given {scores[(scores < 0) & ~worst][0]:g}")
    powers = np.where(worst, 0.0, scores) ** (weights / weights.sum())[:, None]
    return np.where(worst.any(axis=0), -np.inf, powers.prod(axis=0))


def _keep_worst(x: Array, transform: Callable[[Array], Array]) -> Array:
    worst = np.isneginf(x)
    return np.where(worst, -np.inf, transform(np.where(worst, 0.0, x)))


def _finite(transform: Transform) -> None:
    if not all(isfinite(value) for value in astuple(transform)):
        raise GuidedError(f"a transform takes finite numbers, given {spell(transform)}")
