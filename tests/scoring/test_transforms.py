"""Laws of transforms and aggregation: closed forms, bounds, monotonicity, and what happens to -inf."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.scoring.transforms import (
    Linear,
    Sigmoid,
    Transform,
    Window,
    parse_transform,
    spell,
    weighted_mean,
    weighted_product,
)

real = st.floats(-1e6, 1e6)
positive = st.floats(1e-3, 1e3)
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


@given(transforms)
def test_minus_infinity_is_the_worst_in_every_direction(transform: Transform) -> None:
    assert of(transform, -math.inf, 0.0)[0] == -math.inf


@given(transforms)
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
        ("cube=1,2", "unknown transform"),
        ("", "unknown transform"),
    ],
)
def test_a_transform_that_cannot_be_read_says_what_is_accepted(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_transform(text)


def test_weighted_aggregates_have_their_closed_forms() -> None:
    scores, weights = np.array([[0.5, 1.0], [0.25, 0.0]]), np.array([2.0, 1.0])
    assert weighted_mean(scores, weights).tolist() == pytest.approx([1.25 / 3, 2 / 3])
    assert weighted_product(scores, weights).tolist() == pytest.approx([(0.5**2 * 0.25) ** (1 / 3), 0])


@given(
    st.integers(1, 4).flatmap(lambda t: st.lists(st.tuples(*[st.floats(0, 1)] * t), min_size=1, max_size=9)),
    st.lists(positive, min_size=4, max_size=4),
)
def test_aggregates_lie_between_the_terms_and_do_not_depend_on_the_batch(
    rows: list[tuple[float, ...]], four: list[float]
) -> None:
    scores = np.array(rows).T
    weights = np.array(four[: len(scores)])
    for aggregate in (weighted_mean, weighted_product):
        whole = aggregate(scores, weights)
        assert np.all(whole >= scores.min(axis=0) - 1e-12) and np.all(whole <= scores.max(axis=0) + 1e-12)
        alone = [aggregate(scores[:, i : i + 1], weights)[0] for i in range(scores.shape[1])]
        assert whole.tolist() == alone  # to the last bit


@given(st.floats(0, 1e300), positive)
def test_one_term_is_its_own_aggregate_exactly(score: float, weight: float) -> None:
    for aggregate in (weighted_mean, weighted_product):
        assert aggregate(np.array([[score]]), np.array([weight])).tolist() == [score]


def test_minus_infinity_in_a_term_is_minus_infinity() -> None:
    scores = np.array([[-math.inf, 0.5, 0.0], [0.0, -math.inf, 1.0]])
    for aggregate in (weighted_mean, weighted_product):
        assert np.isneginf(aggregate(scores, np.ones(2))).tolist() == [True, True, False]


def test_a_negative_score_has_no_product() -> None:
    with pytest.raises(ValueError, match=r"-0\.5"):
        weighted_product(np.array([[0.5, -0.5]]), np.ones(1))
