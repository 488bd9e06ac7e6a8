"""Elites of several rewards: their rank is that of fronts, and rewards, budgets and requests are as of any search."""

import numpy as np
import pytest
import torch

import guided
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.metrics.pareto import non_dominated
from guided.samplers import BestOfN, Elite
from guided.samplers.population import Population
from guided.scoring.objective import resolve_reward
from guided.values.posterior_mean import PosteriorMean
from tests.samplers.test_searches import first, letters
from tests.toys.small import tokens, vectors

FRONT = Elite(4, 4, size=6, rank="front")


def starts(samples):
    return [0.5 * (4 - s.find("A")) for s in samples]


def second(rows):
    return [-abs(float(row[1])) for row in rows]


def test_a_population_keeps_the_front_and_its_ends():
    """Of a front that is too large the crowded samples leave; those behind it leave first."""
    herd = Population(4)
    scores = [(0.0, 1.0), (0.5, 0.52), (0.52, 0.5), (0.54, 0.48), (1.0, 0.0), (0.4, 0.4), (0.2, np.nan)]
    herd.add([torch.tensor(i) for i in range(7)], scores, "abcdefg", [""] * 7)
    assert {int(g) for g in herd.genomes} == {0, 1, 3, 4}
    herd.add([torch.tensor(7)], [(2.0, 2.0)], "h", [""])
    assert int(herd.genomes[0]) == 7 and len(herd) == 4


def test_the_scores_of_values_are_those_of_the_reward():
    """Their mean is the reward, of requests with weights the weighted one; constraints lower all of them."""
    objective = resolve_reward([letters, starts])
    x = tokens().with_steps(4).start(Streams(0, range(3)), 5)
    while not x.done:
        x = x.propose()
    value = PosteriorMean(objective)
    v, scores = value.scored(x)
    assert torch.equal(v, value(x, 0.0)) and scores.shape == (3, 5, 2)
    samples = tokens().decode(x.x.flatten(0, 1))
    assert scores.flatten(0, 1).T.tolist() == [letters(samples), starts(samples)]
    assert torch.allclose(scores.mean(2), v)


@pytest.mark.parametrize("weights", [None, [[1.0, 0.0], [0.0, 1.0], [0.3, 0.7], [0.5, 0.5]]])
@pytest.mark.parametrize("budget", [{}, {"budget_calls": 5}, {"budget_rows": 14}], ids=str)
def test_a_request_alone_and_among_others_is_the_same(weights, budget):
    given = {"reward": [letters, starts], "sampler": FRONT, "n": 4, "steps": 4, "preferences": weights, **budget}
    whole, alone = guided.sample(tokens(), **given), guided.sample(tokens(), only=2, **given)
    parts = guided.sample(tokens(), **given, batch_size=3)
    assert whole.samples == parts.samples and whole.rewards.tolist() == parts.rewards.tolist()
    assert alone.samples[0] == whole.samples[2] and alone.first_call[0] == whole.first_call[2]
    assert alone.stats.reward_calls <= budget.get("budget_calls", 99)
    assert alone.stats.network_rows <= budget.get("budget_rows", 999)


def test_continuous_models_too():
    given = {"reward": [first, second], "sampler": FRONT, "n": 3, "steps": 4}
    whole, alone = (guided.sample(vectors(conditional=False), **given, only=only) for only in (None, 1))
    assert torch.allclose(whole.samples[1], alone.samples[0], atol=1e-5)
    drawn = guided.sample(vectors(conditional=False), **{**given, "sampler": BestOfN(4)})
    assert (whole.rewards >= drawn.rewards - 1e-5).all()  # the first round is these


def test_the_population_covers_the_front_that_it_saw():
    """Every member of a large population that no other dominates is one of all that were seen."""
    objective, seen = resolve_reward([letters, starts]), []

    class Herd(PosteriorMean):
        def scored(self, particles):
            v, scores = super().scored(particles)
            seen.extend(scores.flatten(0, 1).tolist())
            return v, scores

    FRONT(tokens().with_steps(4), Herd(objective), Streams(0, [0]))
    herd = Population(100)
    herd.add(seen, seen, [tuple(row) for row in seen], [""] * len(seen))
    on = np.array(herd.scores)[non_dominated(np.array(herd.scores))]
    assert {*map(tuple, on)} == {tuple(row) for row in np.array(seen)[non_dominated(np.array(seen))]}
    assert {*herd.scores[: len(on)]} == {*map(tuple, on)}  # they come first


def test_one_reward_has_no_front():
    with pytest.raises(GuidedError, match="rank is 'front', which needs several rewards"):
        guided.sample(tokens(), letters, FRONT, n=1)
    with pytest.raises(GuidedError, match="which function does not have"):
        FRONT(tokens(), first, Streams(0, [0]))
    with pytest.raises(GuidedError, match=r"rank is 'fornt'.*did you mean 'front'"):
        Elite(rank="fornt")
