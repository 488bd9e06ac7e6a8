"""The losses: where they are least, and that they stay finite."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guided.fitting.value.regression import effective, finite, loss
from guided.values.posterior_mean import soft_mean

rewards = st.lists(st.floats(-3, 3), min_size=1, max_size=30).map(lambda r: torch.tensor(r, dtype=torch.float64))


def slope(v, r, alpha, **options):
    """The derivative of the average loss by a value that all rewards share."""
    v = v.clone().requires_grad_()
    loss(v.expand(len(r)), r, alpha, **options).mean().backward()
    return v.grad.item()


@settings(deadline=None)
@given(r=rewards, alpha=st.floats(0.5, 1e4))
def test_the_soft_loss_is_least_at_the_soft_mean(r, alpha):
    best = soft_mean(r[None], alpha)[0]
    step = 0.01 * min(alpha, 1.0)
    assert slope(best, r, alpha, n=len(r)) == pytest.approx(0, abs=1e-9)
    assert slope(best - step, r, alpha, n=len(r)) < 0 < slope(best + step, r, alpha, n=len(r))


@settings(deadline=None)
@given(r=rewards)
def test_the_squared_loss_is_least_at_the_mean(r):
    assert slope(r.mean(), r, None) == pytest.approx(0, abs=1e-9)
    assert slope(r.mean() - 0.1, r, None) < 0 < slope(r.mean() + 0.1, r, None)


@settings(deadline=None)
@given(r=rewards, shift=st.floats(-1e3, 1e3))
def test_one_number_added_to_rewards_and_values_changes_nothing(r, shift):
    v = torch.zeros_like(r)
    torch.testing.assert_close(loss(v + shift, r + shift, 0.7), loss(v, r, 0.7), atol=1e-6, rtol=1e-6)


def test_a_hot_temperature_gives_the_squared_loss():
    r, v = torch.randn(2, 100, dtype=torch.float64)
    torch.testing.assert_close(loss(v, r, 1e5, scale=2.0), loss(v, r, None, scale=2.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 1.0, 1e8])
def test_rewards_of_any_size_give_finite_losses_and_slopes(alpha):
    r = torch.linspace(-1e3, 1e3, 100, dtype=torch.float64)
    start = soft_mean(r[None], alpha)[0]
    for v in (start, start - 5 * alpha, start - 100, start + 100):
        assert math.isfinite(slope(v, r, alpha, n=100, scale=600.0))
        assert loss(v.expand(100), r, alpha, n=100).isfinite().all()
    assert slope(start, r, alpha, n=100) == pytest.approx(0, abs=1e-6 * max(1, alpha))
    assert slope(start - 100, r, alpha, n=100) < 0  # beyond the cap too


def test_a_failed_sample_counts_as_the_worst():
    r = torch.tensor([0.5, -torch.inf, 0.2])
    assert finite(r).tolist() == pytest.approx([0.5, 0.2, 0.2])
    with pytest.raises(ValueError, match="none of the 2 rewards"):
        finite(torch.full((2,), -torch.inf))


def test_effective_rollouts():
    r = torch.tensor([0.0, 0.0, 10.0, 10.0], dtype=torch.float64)
    assert effective(r, 1e6) == pytest.approx(4, abs=1e-3)
    assert effective(r, 0.1) == pytest.approx(2)
