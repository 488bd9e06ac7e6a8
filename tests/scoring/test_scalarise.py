"""Laws of aggregation: closed forms, bounds, constraints, and what happens to -inf."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.scoring.scalarise import AGGREGATES, scalarise, tchebycheff, weighted_mean, weighted_product

positive = st.floats(1e-3, 1e3)


def test_weighted_aggregates_have_their_closed_forms() -> None:
    scores, weights = np.array([[0.5, 1.0], [0.25, 0.0]]), np.array([[2.0], [1.0]])
    assert weighted_mean(scores, weights).tolist() == pytest.approx([1.25 / 3, 2 / 3])
    assert weighted_product(scores, weights).tolist() == pytest.approx([(0.5**2 * 0.25) ** (1 / 3), 0])
    assert tchebycheff(scores, weights).tolist() == [1 - max(0.5, 0.75 / 2), 1 - 1 / 2]


@given(
    st.integers(1, 4).flatmap(lambda t: st.lists(st.tuples(*[st.floats(0, 1)] * t), min_size=1, max_size=9)),
    st.lists(positive, min_size=4, max_size=4),
)
def test_aggregates_lie_between_the_terms_and_do_not_depend_on_the_batch(
    rows: list[tuple[float, ...]], four: list[float]
) -> None:
    scores = np.array(rows).T
    weights = np.array(four[: len(scores)])[:, None]
    for aggregate in AGGREGATES.values():
        whole = aggregate(scores, weights)
        assert np.all(whole >= scores.min(axis=0) - 1e-12) and np.all(whole <= scores.max(axis=0) + 1e-12)
        alone = [aggregate(scores[:, i : i + 1], weights)[0] for i in range(scores.shape[1])]
        assert whole.tolist() == alone  # to the last bit


@given(st.floats(0, 1e300), positive)
def test_one_term_is_its_own_aggregate_exactly(score: float, weight: float) -> None:
    for aggregate in AGGREGATES.values():
        close = aggregate(np.array([[score]]), np.array([[weight]])).item()
        assert close == score if aggregate is not tchebycheff else close == 1 - (1 - score)


def test_minus_infinity_in_a_term_is_minus_infinity() -> None:
    scores = np.array([[-math.inf, 0.5, 0.0], [0.0, -math.inf, 1.0]])
    for aggregate in AGGREGATES.values():
        assert np.isneginf(aggregate(scores, np.ones((2, 1)))).tolist() == [True, True, False]


def test_a_negative_score_has_no_product() -> None:
    with pytest.raises(ValueError, match=r"-0\.5"):
        weighted_product(np.array([[0.5, -0.5]]), np.ones((1, 1)))


scores_and_weights = st.integers(2, 4).flatmap(
    lambda t: st.tuples(
        st.lists(st.lists(st.floats(0, 1), min_size=t, max_size=t), min_size=1, max_size=5),
        st.lists(st.lists(st.floats(0, 1), min_size=t, max_size=t).filter(sum), min_size=5, max_size=5),
    )
)


@given(scores_and_weights)
def test_samples_with_weights_of_their_own_are_as_if_they_were_alone(given) -> None:
    rows, each = given
    scores, weights = np.array(rows).T, np.array(each[: len(rows)]).T
    for aggregate in AGGREGATES.values():
        alone = [aggregate(scores[:, i : i + 1], weights[:, i : i + 1])[0] for i in range(len(rows))]
        assert aggregate(scores, weights).tolist() == alone


def test_a_reward_of_weight_0_does_not_count_unless_it_is_the_worst_there_is() -> None:
    scores, weights = np.array([[0.25], [0.75]]), np.array([[1.0], [0.0]])
    for name, aggregate in AGGREGATES.items():
        assert aggregate(scores, weights).item() == 0.25, name
        assert np.isneginf(aggregate(np.array([[0.25], [-math.inf]]), weights))


def test_what_a_constraint_is_violated_by_is_taken_off_whatever_the_weights() -> None:
    scores, weights = np.array([[0.5, 0.5], [0.0, -3.0], [0.25, 0.25]]), np.array([[3.0], [9.0], [1.0]])
    constraints = np.array([False, True, False])
    for name, aggregate in AGGREGATES.items():
        without = aggregate(scores[[0, 2]], weights[[0, 2]])
        assert scalarise(scores, weights, constraints, name).tolist() == [without[0], without[1] - 3]
    assert scalarise(scores, weights, np.ones(3, bool), "product").tolist() == [0.75, -2.25]


def test_tchebycheff_finds_what_no_weighted_mean_finds() -> None:
    """A front that is hollow: (.4, .4) is on it, and below the line from (1, 0) to (0, 1)."""
    front = np.array([[1.0, 0.0], [0.4, 0.4], [0.0, 1.0]]).T
    for w in np.linspace(0, 1, 101):
        weights = np.array([[w], [1 - w]])
        assert weighted_mean(front, weights).argmax() != 1
    assert tchebycheff(front, np.array([[0.5], [0.5]])).argmax() == 1
