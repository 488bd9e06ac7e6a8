"""The contrastive objective: where it is least, by enumeration, and the fits that end with it."""

import itertools

import pytest
import torch

from guided.fitting.value import fit as fitting
from guided.fitting.value.contrast import contrast
from guided.fitting.value.fit import Fit, Settings
from guided.fitting.value.rollouts import Rollouts
from guided.fitting.value.states import Data
from guided.values.posterior_mean import soft_mean

ALPHA = 0.5
P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)  # of three states
R = torch.tensor([[0.0, 1.0], [0.5, 0.5], [-1.0, 2.0]], dtype=torch.float64)  # two rewards of each, equally likely
SOFT = soft_mean(R, ALPHA)
LEVEL = (ALPHA * ((P[:, None] * (R / ALPHA).exp()).sum() / 2).log()).item()


def slope(v, m, weight=None):
    """The derivative of the expected loss of groups of m states by the value of each state."""
    v, total = v.clone().requires_grad_(), 0.0
    for states in itertools.product(range(3), repeat=m):
        for ends in itertools.product(range(2), repeat=m):
            s, r = torch.tensor(states), R[list(states), list(ends)]
            if weight is not None:
                r = LEVEL + ALPHA * weight(r).log()
            total = total + P[s].prod() / 2**m * contrast(v[s], r, ALPHA, LEVEL).mean()
    return torch.autograd.grad(total, v)[0]


@pytest.mark.parametrize("m", [2, 3])
def test_it_is_least_at_the_soft_value_for_groups_of_any_size(m):
    assert slope(SOFT, m).abs().max() < 1e-12
    for wrong in (SOFT + torch.tensor([0.1, 0.0, 0.0]), R.mean(1)):
        assert slope(wrong, m).abs().max() > 1e-3
    assert slope(SOFT + torch.tensor([0.1, 0.0, 0.0]), m)[0] > 0  # what is too high goes down


def test_weights_that_are_normalised_in_each_group_would_have_another_minimum():
    assert slope(SOFT, 2, lambda r: 2 * (r / ALPHA).softmax(0)).abs().max() > 1e-3


def test_a_constant_changes_nothing():
    v, r = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(contrast(v + 7, r, ALPHA, 0.1), contrast(v, r, ALPHA, 0.1))
    torch.testing.assert_close(contrast(v + 7, r + 7, ALPHA, 7.1), contrast(v, r, ALPHA, 0.1))
    assert contrast(torch.ones_like(v), r, ALPHA, 0.1).abs().max() < 1e-12


def test_a_hot_temperature_gives_the_squared_loss_of_differences():
    """Half the variance of v - r in the group, but for what v does not change."""
    v, w, r = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = (contrast(v, r, 1e4, r.mean()) - contrast(w, r, 1e4, r.mean())).mean()
    half = ((v - r).var(correction=0) - (w - r).var(correction=0)) / 2
    torch.testing.assert_close(loss, half, rtol=1e-3, atol=0)


def data(n=40, K=3):
    k, of = torch.arange(K).repeat(n), torch.arange(n).repeat_interleave(K)
    r = torch.randn(n, generator=torch.Generator().manual_seed(0)).double()
    rollouts = Rollouts(k[:, None].float(), k, of, r, None, r[:, None], 0)
    return Data.split(rollouts, [1 - step / K for step in range(K + 1)], 1, torch.device("cpu"))


class Flat(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x, t, prompt):
        return self.weight[x[:, 0].long()]


def test_a_fit_compares_after_the_squared_loss_and_one_that_was_killed_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVING", 0.0)

    def made():
        return Fit(Flat(), *data(), Settings("soft", ALPHA, 40, batch=64, lr=0.05, objective="contrastive"))

    def kill(update, loss):
        if update == 34:
            raise InterruptedError

    whole, killed, again, contrasts = made(), made(), made(), []
    whole.run(tmp_path / "whole", lambda update, loss: contrasts.append(whole.contrasts))
    assert contrasts == [False] * 28 + [True] * 12
    with pytest.raises(InterruptedError):
        killed.run(tmp_path / "killed", kill)
    again.run(tmp_path / "killed", lambda update, loss: contrasts.append(update))
    assert contrasts[40] == 35 and again.history == whole.history
    assert torch.equal(again.net.weight, whole.net.weight) and again.scaled == whole.scaled
    over = whole.train.r - whole.train.values(whole.scaled, whole.net)
    assert soft_mean(over[None], ALPHA).item() == pytest.approx(0, abs=1e-6)
