"""The front, the hypervolume and R2 against their definitions."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.errors import GuidedError
from guided.metrics.pareto import gain, gaps, hypervolume, non_dominated, r2, ranked, simplex

sets = st.integers(2, 3).flatmap(
    lambda t: st.lists(st.tuples(*[st.integers(0, 5)] * t), min_size=1, max_size=12).map(
        lambda rows: np.array(rows) / 5
    )
)


@given(sets)
def test_the_front_is_what_no_other_dominates(scores):
    dominated = [any((a >= b).all() and (a > b).any() for a in scores) for b in scores]
    assert non_dominated(scores).tolist() == [not it for it in dominated]


@given(sets)
def test_the_hypervolume_is_the_share_of_the_cells_that_a_sample_reaches(scores):
    cells = list(product(range(5), repeat=scores.shape[1]))
    reached = sum(any((s >= (np.array(cell) + 1) / 5 - 1e-9).all() for s in scores) for cell in cells)
    assert hypervolume(scores, [0.0] * scores.shape[1]) == pytest.approx(reached / len(cells))


@given(sets, st.integers(0, 5), st.integers(0, 5))
def test_a_gain_is_the_difference_of_hypervolumes(scores, x, y):
    point, reference = np.array([x, y, 3])[: scores.shape[1]] / 5, [0.0] * scores.shape[1]
    more = hypervolume(np.vstack([scores, point]), reference) - hypervolume(scores, reference)
    assert gain(point, scores, reference) == pytest.approx(more, abs=1e-12)


@given(sets)
def test_gaps_are_between_neighbours(scores):
    """With two scores these are the steps of the staircase; the corner of a gap lies above both sides and no other."""
    T = scores.shape[1]
    front, found = np.unique(scores[non_dominated(scores)], axis=0), gaps(scores, [1.0] * T)
    room = int((front.max(0) < 1).sum())
    ends = found[len(found) - room :]
    assert (ends[:, 1] > ends[:, 0]).sum(1).tolist() == [1] * room and (ends.max(1).max(1) == 1).all()
    if T == 2:
        assert found[: len(found) - room].tolist() == [[a.tolist(), b.tolist()] for a, b in pairwise(front)]
    for a, b in found[: len(found) - room]:
        inside = (front >= np.minimum(a, b)) & (front <= np.maximum(a, b))
        assert inside.all(1).sum() == 2 and not (front >= np.maximum(a, b)).all(1).any()


@given(sets)
def test_ranks_are_fronts_one_after_the_other(scores):
    left, order = [*range(len(scores))], ranked(scores)
    while left:
        front = [left[i] for i in np.flatnonzero(non_dominated(scores[left]))]
        assert {*order[: len(front)]} == {*front}
        ends = {*scores[front].min(0).tolist(), *scores[front].max(0).tolist()}
        assert {*scores[order[0]].tolist()} & ends  # one that is at an end comes first
        left, order = [i for i in left if i not in front], order[len(front) :]


@given(sets)
def test_r2_is_the_mean_over_weights_of_the_smallest_distance(scores):
    T = scores.shape[1]
    weights = simplex(T, 20_000)
    mean = np.mean([(w * (1 - scores)).max(1).min() for w in weights[:: 1 if T == 2 else 7]])
    assert r2(scores, [1.0] * T) == pytest.approx(mean, abs=0.02)
    assert r2(np.vstack([scores, np.ones(T)]), [1.0] * T) == pytest.approx(0)


def test_a_grid_of_weights_is_even_and_no_larger_than_asked():
    assert simplex(2, 5).tolist() == [[0, 1], [0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [1, 0]]
    for T, most in ((2, 16), (3, 16), (4, 100), (1, 3)):
        grid = simplex(T, most)
        assert len(grid) <= max(most, T) and np.allclose(grid.sum(1), 1) and len(np.unique(grid, axis=0)) == len(grid)
    assert len(simplex(3, 16)) == 15


@pytest.mark.parametrize(
    ("scores", "said"), [(np.zeros((0, 2)), "there must be a sample"), (np.full((2, 2), np.nan), "finite numbers")]
)
def test_wrong_scores_are_refused(scores, said):
    for measure in (lambda s: hypervolume(s, [0, 0]), lambda s: r2(s, [1, 1]), non_dominated):
        with pytest.raises(GuidedError, match=said):
            measure(scores)
    with pytest.raises(GuidedError, match=r"\(2, 2\); they must have \(n, 3\)"):
        hypervolume(np.zeros((2, 2)), [0, 0, 0])
