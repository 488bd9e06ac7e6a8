"""Choice and resampling follow their distributions, whatever the scale of the values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.core.random import Streams
from guided.core.resampling import choose, ess, normalize, systematic, tilt

INF = math.inf


def frequencies(value, alpha, n=40_000):
    index = choose(torch.tensor(value).expand(n, -1), alpha, Streams(0, range(n)))
    return torch.bincount(index, minlength=len(value)) / n


@pytest.mark.parametrize("shift", [0.0, 1e6, -1e6])
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_choice_is_the_softmax_of_the_values(shift, alpha):
    value = torch.tensor([0.0, 1.0, -0.5], dtype=torch.float64)
    torch.testing.assert_close(
        frequencies((value + shift).tolist(), alpha), (value / alpha).softmax(0).float(), atol=0.01, rtol=0
    )


def test_at_zero_the_best_is_chosen_and_equals_alike():
    torch.testing.assert_close(
        frequencies([1.0, 3.0, 3.0, -INF], 0.0), torch.tensor([0, 0.5, 0.5, 0]), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("value", [[-INF, -INF], [math.nan, math.nan], [-INF, math.nan], [INF, INF]])
def test_no_usable_value_leaves_a_uniform_choice(value, alpha):
    torch.testing.assert_close(frequencies(value, alpha), torch.tensor([0.5, 0.5]), atol=0.01, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_nan_is_never_chosen_beside_a_number(alpha):
    assert frequencies([math.nan, -5.0, -INF], alpha).tolist() == [0, 1, 0]
    assert frequencies([INF, 5.0], alpha).tolist() == [1, 0]


def test_choice_in_groups():
    value = torch.tensor([[[0.0, 1.0], [5.0, 2.0]]])
    assert choose(value, 0.0, Streams(0, [0])).tolist() == [[1, 0]]


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=8), st.floats(1e-3, 1e3))
def test_tilt_is_at_most_zero_and_reached(value, alpha):
    log_w = tilt(torch.tensor([value], dtype=torch.float64), alpha)
    assert log_w.max() == 0 and not log_w.isnan().any()


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=8), st.floats(-1e4, 1e4))
def test_effective_sample_size(log_w, shift):
    log_w = torch.tensor([log_w], dtype=torch.float64)
    w = (log_w - log_w.max()).exp()
    expected = (w.sum() ** 2 / (w**2).sum()).item()
    assert ess(log_w + shift).item() == pytest.approx(expected, rel=1e-6)
    assert 1 - 1e-9 <= ess(log_w).item() <= log_w.shape[1] + 1e-9


@given(st.integers(0, 1000), st.integers(1, 9))
def test_systematic_copies_are_floor_or_ceil(seed, N):
    streams = Streams(seed, range(4))
    log_w = 3 * streams.normal(N)
    copies = torch.stack([torch.bincount(row, minlength=N) for row in systematic(log_w, streams)])
    expected = N * normalize(log_w)
    assert ((copies >= (expected - 1e-6).floor()) & (copies <= (expected + 1e-6).ceil())).all()


def test_best_of_n_passes_over_nan_and_low_precision_counts_as_doubles():
    assert tilt(torch.tensor([[1, 3, 2]]), 1.0).dtype == torch.float64
    assert tilt(torch.tensor([[1.0, torch.nan, 2.0]]).half(), 0.0).argmax(1).item() == 2


def test_systematic_takes_the_last_position():
    class Top:
        def uniform(self, *shape):
            return torch.full((1, *shape), 1 - 2**-24)

    log_w = torch.zeros(1, 1000)
    log_w[0, -1] = -INF
    assert systematic(log_w, Top()).max().item() == 998


def test_systematic_is_unbiased_and_ignores_the_dead():
    log_w = torch.tensor([0.0, -INF, 1.0, 0.5]).expand(20_000, -1)
    copies = torch.bincount(systematic(log_w, Streams(0, range(20_000))).flatten(), minlength=4) / 20_000
    torch.testing.assert_close(copies, 4 * log_w[0].softmax(0), atol=0.02, rtol=0)
    assert copies[1] == 0


def test_particles_of_a_request_choose_independently():
    """Two particles with equal values choose the same candidate as often as by chance."""
    index = choose(torch.zeros(20_000, 2, 4), 1.0, Streams(0, range(20_000)))
    assert index.shape == (20_000, 2)
    assert (index[:, 0] == index[:, 1]).float().mean().item() == pytest.approx(1 / 4, abs=0.015)
