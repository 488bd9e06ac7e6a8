"""Choice and resampling follow their distributions, whatever the scale of the values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.core.random import Streams
from guided.core.resampling import (
    SCHEMES,
    choose,
    conditional_multinomial,
    ess,
    multinomial,
    normalize,
    residual,
    ssp,
    systematic,
    tilt,
)
from tests.toys.small import Numbers

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


def copies(log_w, index):
    """The number of copies of each particle, with shape (B, N)."""
    return torch.zeros(log_w.shape, dtype=torch.long).scatter_add(1, index, torch.ones_like(index))


@pytest.mark.parametrize("scheme", [ssp, systematic])
@given(seed=st.integers(0, 1000), N=st.integers(1, 9))
def test_copies_are_floor_or_ceil(scheme, seed, N):
    streams = Streams(seed, range(4))
    log_w = 3 * streams.normal(N)
    expected = N * normalize(log_w)
    drawn = copies(log_w, scheme(log_w, streams))
    assert ((drawn >= (expected - 1e-6).floor()) & (drawn <= (expected + 1e-6).ceil())).all()


@given(seed=st.integers(0, 1000), N=st.integers(1, 9))
def test_residual_copies_are_the_floor_at_least(seed, N):
    streams = Streams(seed, range(4))
    log_w = 3 * streams.normal(N)
    assert (copies(log_w, residual(log_w, streams)) >= (N * normalize(log_w) - 1e-6).floor()).all()


WEIGHTS = [
    [0.5, 0.0, 0.2, 0.3],
    [0.01, 0.97, 0.02],
    [0.25, 0.25, 0.5],
    [0.1, 0.35, 0.15, 0.25, 0.15],
    [1.0, 0.0],
    [1.0],
]


@pytest.mark.parametrize("w", WEIGHTS)
@pytest.mark.parametrize("name", SCHEMES)
def test_resampling_is_unbiased(name, w):
    """E[copies] = N w, and none of a particle of weight zero."""
    n, w = 40_000, torch.tensor(w, dtype=torch.float64)
    log_w = w.log().expand(n, -1)
    drawn = copies(log_w, SCHEMES[name](log_w, Numbers(n))).double()
    assert drawn.sum(1).unique().item() == len(w)
    assert (drawn[:, w == 0] == 0).all()
    error = (drawn.mean(0) - len(w) * w).abs()
    assert (error <= 4 * drawn.std(0) / n**0.5 + 1e-9).all()


def test_ssp_copies_of_two_are_never_positively_correlated():
    n, w = 40_000, torch.tensor([0.1, 0.35, 0.15, 0.25, 0.15])
    log_w = w.log().expand(n, -1)
    covariance = copies(log_w, ssp(log_w, Numbers(n))).double().T.cov()
    assert (covariance - covariance.diag().diag() < 0.005).all()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_request_is_resampled_alone_as_among_others(name):
    log_w = 3 * Streams(1, range(5)).normal(6)
    log_w[3] = -INF
    streams, alone = Streams(0, range(5)), Streams(0, [2])
    for _ in range(2):
        index = SCHEMES[name](log_w, streams)
        assert torch.equal(index[2:3], SCHEMES[name](log_w[2:3], alone))
        assert index.min() >= 0 and index.max() < 6


def test_conditional_multinomial_is_multinomial_given_that_slot_0_draws_particle_0():
    n, log_w = 60_000, torch.tensor([0.4, 0.1, 0.5], dtype=torch.float64).log()
    held = conditional_multinomial(log_w.expand(n, -1), Numbers(n))
    free = multinomial(log_w.expand(3 * n, -1), Numbers(3 * n, 1))
    free = free[free[:, 0] == 0]
    pairs = [torch.bincount(3 * index[:, 1] + index[:, 2], minlength=9) / len(index) for index in (held, free)]
    torch.testing.assert_close(*pairs, atol=0.01, rtol=0)
    assert (held[:, 0] == 0).all()


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


def test_particles_of_a_request_choose_independently():
    """Two particles with equal values choose the same candidate as often as by chance."""
    index = choose(torch.zeros(20_000, 2, 4), 1.0, Streams(0, range(20_000)))
    assert index.shape == (20_000, 2)
    assert (index[:, 0] == index[:, 1]).float().mean().item() == pytest.approx(1 / 4, abs=0.015)
