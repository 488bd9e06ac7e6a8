"""The updates of a value network: which copy is backed up, and where gradients are clipped."""

import copy
import math

import pytest
import torch

from guided.fitting.value import fit as fitting
from guided.fitting.value.fit import Fit, Settings
from guided.fitting.value.rollouts import read, roll
from guided.fitting.value.shards import Layout
from guided.fitting.value.states import Data
from tests.toys.values import CHAIN, Table, chain_reward

K = CHAIN.K


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    path, n = tmp_path_factory.mktemp("rollouts"), 60
    roll(lambda block: CHAIN.model(), chain_reward, path, n, seed=3, states=3, candidates=4, batch_size=n)
    return Data.split(
        read(path, n, n, Layout.of(CHAIN.model(), 3, 4)), [1 - k / K for k in range(K + 1)], 1, torch.device("cpu")
    )


def made(parts, target, updates=40, alpha=0.2):
    return Fit(Table((CHAIN.L,), CHAIN.V + 1, 1), *parts, Settings(target, alpha, updates, batch=32, lr=0.05))


def test_what_is_backed_up_is_the_network_as_it_was_when_the_last_step_opened(parts, tmp_path, monkeypatch):
    """From there on a copy of each K-th part of the remaining updates; never an older one, and never the network."""
    fit, seen, backup = made(parts, "bootstrap"), [], Data.backup
    before = [copy.deepcopy(fit.net.state_dict())]

    def watched(self, scaled, net, rows, alpha):
        seen.append(next(u for u in reversed(range(len(before))) if torch.equal(before[u]["table"], net.table)))
        return backup(self, scaled, net, rows, alpha)

    monkeypatch.setattr(Data, "backup", watched)
    fit.run(tmp_path / "state", lambda update, loss: before.append(copy.deepcopy(fit.net.state_dict())))
    first, updates = fit.settings.first, fit.settings.updates
    opened = [min(u for u in range(first + 1) if fit.settings.horizon(u, K) == k) for k in range(K)]
    part = (updates - first) // K
    opened += range(first + part, updates, part)
    assert seen == [max(u for u in opened if u <= update) for update in range(updates)]
    assert len(set(seen)) >= 2 * K - 1


@pytest.mark.parametrize(("alpha", "clipped"), [(None, True), (0.05, False)])
def test_gradients_are_clipped_in_the_phase_of_the_squared_loss_alone(parts, alpha, clipped):
    """The soft loss owes its minimiser to few large gradients: plain descent moves by all of each."""
    fit = made(parts, "soft")
    fit.alpha = alpha
    fit.scaled = fitting.Scaled(-2.0 if alpha else -20.0, fit.scaled.scale)  # far below the rewards: steep
    fit.loop.optimizers = [torch.optim.SGD(fit.net.parameters(), 1.0)]
    rows = fit._draw(len(fit.train))
    net = copy.deepcopy(fit.net)
    fit._loss(fit.train.value(fit.scaled, net, rows), fit.train.r[rows]).mean().backward()
    norm = net.table.grad.norm().item()
    assert norm > 5
    before = fit.net.table.detach().clone()
    fit._step()
    moved = (fit.net.table - before).norm().item() / fit.loop.optimizers[0].param_groups[0]["lr"]
    assert moved == pytest.approx(1.0 if clipped else norm, rel=1e-3)


def test_the_soft_phase_begins_where_its_loss_is_least(parts, tmp_path):
    """The shift of a soft value grows from the mean's to the soft mean's over the rewards."""
    fit = made(parts, "soft", updates=60)
    mean = fit.scaled.shift
    fit.run(tmp_path / "state")
    assert math.isclose(mean, parts[0].r.mean().item()) and fit.scaled.shift > mean
