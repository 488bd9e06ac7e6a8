"""Learned values against exact enumeration: on the chain, with a table as the network, only the rollouts are random."""

from itertools import pairwise

import pytest
import torch

import guided
from guided.samplers import SVDD
from guided.values.posterior_mean import PosteriorMean
from tests.samplers.test_svdd import distance, frequencies
from tests.toys.values import CHAIN, Table, chain_reward, exact, occupancy

ALPHA = 0.2
SIZES = (6000, 600, 60)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Values of each target and size; all share the largest rollouts."""
    folder = tmp_path_factory.mktemp("values")
    options = {"rollouts": folder / "rollouts", "candidates": 4, "batch_size": SIZES[0], "states": 3, "n_check": 0}
    options |= {"network": Table, "updates": 200, "batch": 512, "lr": 0.05, "weight_decay": 0.0}
    model = CHAIN.model(identity="chain")
    found = {
        (target, n): guided.fit_value(model, chain_reward, target, ALPHA, n, folder / f"{target}-{n}", **options)
        for n in SIZES
        for target in ("mean", "soft", "bootstrap")
        if target != "mean" or n != SIZES[1]
    }
    options |= {"objective": "contrastive", "batch": 2048}
    for n in SIZES[::2]:
        found["contrastive", n] = guided.fit_value(
            model, chain_reward, "soft", ALPHA, n, folder / f"contrastive-{n}", **options
        )
    return found


def predicted(value, k):
    return value.predict(CHAIN.states, CHAIN.process.time(k), torch.zeros(len(CHAIN.states), dtype=torch.long))


def error(value, target):
    """Root mean square over the states as the chain visits them."""
    truth = exact(target, ALPHA)
    parts = [(p * (predicted(value, k) - truth[k]).square()).sum() for k, p in enumerate(occupancy())]
    return (sum(parts) / CHAIN.K).sqrt().item()


@pytest.mark.parametrize("target", ["mean", "soft", "bootstrap", "contrastive"])
def test_the_value_converges_to_the_exact_one(fitted, target):
    errors = [error(fitted[target, n], target) for n in reversed(SIZES) if (target, n) in fitted]
    assert all(few > 1.4 * more for few, more in pairwise(errors))
    assert errors[-1] < 0.03
    assert fitted[target, SIZES[0]].config["fit"].get("objective") == (target if target == "contrastive" else None)


def test_mean_and_soft_value_are_different_things(fitted):
    """The mean is below the soft value, by about Var(r | x) / (2 alpha)."""
    gap = predicted(fitted["soft", SIZES[0]], 0)[-1] - predicted(fitted["mean", SIZES[0]], 0)[-1]
    truth = exact("soft", ALPHA)[0][-1] - exact("mean", ALPHA)[0][-1]
    assert truth > 0.1 and abs(gap - truth) < 0.03


def test_svdd_with_it_samples_the_tilted_law(fitted):
    tilted = CHAIN.distribution() * (exact("soft", ALPHA)[-1] / ALPHA).exp()
    tilted /= tilted.sum()
    model, n = CHAIN.model(identity="chain"), 6000
    values = {target: fitted[target, SIZES[0]] for target in ("soft", "bootstrap", "contrastive")}
    values = {target: value.bind(model, value.reward) for target, value in values.items()}
    values["look-ahead"] = PosteriorMean(chain_reward)
    off = {name: distance(frequencies(CHAIN, SVDD(24, ALPHA), value, n), tilted) for name, value in values.items()}
    assert distance(CHAIN.distribution(), tilted) > 0.2
    assert max(off["soft"], off["bootstrap"], off["contrastive"]) < 0.04 and off["look-ahead"] > 0.08
