"""Laws of transforms and aggregation: closed forms, bounds, monotonicity, and what happens to -inf."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.scoring.transforms import (
    Above,
    Below,
    Linear,
    Sigmoid,
    Transform,
    Window,
    parse_transform,
    spell,
)

real = st.floats(-1e6, 1e6)
positive = st.floats(1e-3, 1e3)
constraints = st.builds(Above, real, positive) | st.builds(Below, real, positive)
transforms = st.one_of(
    st.builds(lambda a, d: Linear(a, a + d), real, positive | positive.map(lambda d: -d)),
    st.builds(Sigmoid, real, positive | positive.map(lambda s: -s)),
    st.builds(lambda low, width, softness: Window(low, low + width, softness), real, st.just(0.0) | positive, positive),
)


def of(transform: Transform, *values: float) -> list[float]:
    return [float(y) for y in transform(np.array(values))]


def test_linear_is_the_clipped_line() -> None:
    assert of(Linear(10, 1), 11, 10, 5.5, 1, 0) == [0, 0, 0.5, 1, 1]
    assert of(Linear(-1, 3), -2, -1, 0, 3, 4) == [0, 0, 0.25, 1, 1]


def test_sigmoid_is_the_logistic_curve_and_does_not_overflow() -> None:
    assert of(Sigmoid(2, 3), 2, 2.5, 1) == pytest.approx([0.5, 1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(3))])
    assert of(Sigmoid(0, -1), 1e308, -1e308) == [0, 1]


def test_window_is_one_inside_and_gaussian_outside() -> None:
    assert of(Window(1, 4, 0.5), 0.5, 1, 2, 4, 5) == pytest.approx([math.exp(-0.5), 1, 1, 1, math.exp(-2)])
    assert of(Window(1, 4), 0.999, 1, 4, 4.001) == [0, 1, 1, 0]


@given(transforms, st.lists(real, min_size=1, max_size=20))
def test_transforms_stay_between_0_and_1(transform: Transform, values: list[float]) -> None:
    assert all(0 <= y <= 1 for y in of(transform, *values))


@given(transforms.filter(lambda t: not isinstance(t, Window)), real, real)
def test_linear_and_sigmoid_are_monotone_in_their_direction(transform: Transform, x: float, y: float) -> None:
    up = transform.b > transform.a if isinstance(transform, Linear) else transform.slope > 0  # type: ignore[union-attr]
    low, high = of(transform, *sorted((x, y), reverse=not up))
    assert low <= high


@given(st.builds(lambda low, width, s: Window(low, low + width, s), real, positive, positive), positive, positive)
def test_window_falls_with_the_distance_and_is_symmetric(window: Window, d: float, more: float) -> None:
    near, far = of(window, window.high + d, window.high + d + more)
    assert far <= near <= 1
    assert near == pytest.approx(of(window, window.low - d)[0], rel=1e-3, abs=1e-9)


@given(constraints, real)
def test_a_constraint_is_0_where_it_holds_and_falls_with_the_violation(constraint: Above | Below, x: float) -> None:
    sign = 1 if isinstance(constraint, Above) else -1
    missing = max(0.0, sign * (constraint.bound - x))
    assert of(constraint, x) == [-constraint.penalty * missing + 0.0]
    assert of(constraint, constraint.bound) == [0.0]


@given(transforms | constraints)
def test_minus_infinity_is_the_worst_in_every_direction(transform: Transform) -> None:
    assert of(transform, -math.inf, 0.0)[0] == -math.inf


@given(transforms | constraints)
def test_a_spelled_transform_is_parsed_to_an_equal_one(transform: Transform) -> None:
    assert parse_transform(spell(transform)) == transform


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("linear=1", "linear=a,b"),
        ("linear=1,1", "different"),
        ("linear=1,2,3", "linear=a,b"),
        ("sigmoid=1,0", "slope"),
        ("sigmoid=x,1", "numbers"),
        ("window=1", "low,high"),
        ("window=4,1", "low <= high"),
        ("window=1,4,-1", "softness >= 0"),
        ("window=1,2,3,4", "low,high"),
        ("linear=nan,1", "finite"),
        ("above=1,0", "penalty above 0"),
        ("below=inf", "finite"),
        ("above=1,2,3", r"above=bound\[,penalty\]"),
        ("cube=1,2", "unknown transform"),
        ("", "unknown transform"),
    ],
)
def test_a_transform_that_cannot_be_read_says_what_is_accepted(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_transform(text)
