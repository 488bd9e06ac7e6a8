"""Learned values against exact enumeration: on the chain, with a table as the network, only the rollouts are random."""

import pytest
import torch

import guided
from guided.samplers import SVDD
from guided.value import PosteriorMean
from tests.learned.toys import CHAIN, Table, chain_reward, exact, occupancy
from tests.samplers.test_svdd import distance, frequencies

ALPHA = 0.2
SIZES = (6000, 600, 60)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Values of each target and size; all share the largest rollouts."""
    folder = tmp_path_factory.mktemp("values")
    options = {"rollouts": folder / "rollouts", "candidates": 4, "batch_size": SIZES[0], "states": 3, "n_check": 0}
    options |= {"network": Table, "updates": 200, "batch": 512, "lr": 0.05, "weight_decay": 0.0}
    model = CHAIN.model(identity="chain")
    return {
        (target, n): guided.fit_value(model, chain_reward, target, ALPHA, n, folder / f"{target}-{n}", **options)
        for n in SIZES
        for target in ("mean", "soft", "bootstrap")
    }


def predicted(value, k):
    return value.predict(CHAIN.states, CHAIN.process.time(k), torch.zeros(len(CHAIN.states), dtype=torch.long))


def error(value, target):
    """Root mean square over the states as the chain visits them."""
    truth = exact(target, ALPHA)
    parts = [(p * (predicted(value, k) - truth[k]).square()).sum() for k, p in enumerate(occupancy())]
    return (sum(parts) / CHAIN.K).sqrt().item()


@pytest.mark.parametrize("target", ["mean", "soft", "bootstrap"])
def test_the_value_converges_to_the_exact_one(fitted, target):
    few, more, many = (error(fitted[target, n], target) for n in reversed(SIZES))
    assert few > 1.5 * more > 2 * many
    assert many < 0.03


def test_mean_and_soft_value_are_different_things(fitted):
    """The mean is below the soft value, by about Var(r | x) / (2 alpha)."""
    gap = predicted(fitted["soft", SIZES[0]], 0)[-1] - predicted(fitted["mean", SIZES[0]], 0)[-1]
    truth = exact("soft", ALPHA)[0][-1] - exact("mean", ALPHA)[0][-1]
    assert truth > 0.1 and abs(gap - truth) < 0.03


@pytest.mark.parametrize("target", ["soft", "bootstrap"])
def test_svdd_with_it_samples_the_tilted_law(fitted, target):
    tilted = CHAIN.law() * (exact("soft", ALPHA)[-1] / ALPHA).exp()
    tilted /= tilted.sum()
    model, n = CHAIN.model(identity="chain"), 20_000
    laws = {
        name: frequencies(CHAIN, SVDD(32, ALPHA), value, n)
        for name, value in {
            "learned": fitted[target, SIZES[0]].bind(model, fitted[target, SIZES[0]].reward),
            "look-ahead": PosteriorMean(chain_reward),
        }.items()
    }
    assert distance(CHAIN.law(), tilted) > 0.2
    assert distance(laws["learned"], tilted) < 0.04 < 0.08 < distance(laws["look-ahead"], tilted)
