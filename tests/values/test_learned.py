"""A learned value in use: its cost, its inputs, and what it refuses."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import guided
from guided.core.batching import Evaluator
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.samplers import SVDD, BestOfN
from guided.samplers.gradient import ClassifierGuidance
from guided.scoring.objective import resolve_reward
from guided.values.learned import LearnedValue, describe
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Counting, gaussian
from tests.toys.values import dna, gc


class Sum(nn.Module):
    """Adds up what it is given, with the time and the number of the prompt, and remembers how many rows there were."""

    def __init__(self):
        super().__init__()
        self.rows = 0

    def forward(self, x, t, prompt):
        self.rows += len(x)
        return x.flatten(1).float().sum(1) + 100 * t + 1000 * prompt


def first(x):
    return x[:, 0]


def value_of(model, reward=gc, target="mean", alpha=None, **options):
    ends = model.process.time(0), model.process.time(model.steps)
    objective = resolve_reward(reward)
    config = {"model": describe(model), "reward": objective.identity, "target": target, "alpha": alpha, "times": ends}
    return LearnedValue(Sum(), {**config, "shift": 7.0, "scale": 2.0}, objective, **options)


def particles_at(model, x, k):
    return Particles(model, x, k, Streams(0, range(len(x))))


def test_it_is_the_networks_number_in_units_of_the_reward():
    model = dna().prompted(["GC", "AT", "GC"])
    x = torch.randint(0, 5, (3, 4, 12), generator=torch.Generator().manual_seed(0))
    v = value_of(model)(particles_at(model, x, 1), 0.0)
    number = torch.tensor([0, 1, 0])[:, None]
    assert v.dtype == torch.float64 and v.device.type == "cpu"
    assert torch.equal(v, 7 + 2 * (x.sum(2) + 75 + 1000 * number).double())
    one = value_of(dna().prompted(["GC"]))
    assert torch.equal(one(particles_at(model.select([0, 2]), x[[0, 2]], 1), 0.0), v[[0, 2]])


@pytest.mark.parametrize("K", [4, 8])
def test_the_time_is_that_of_the_process_whatever_its_steps(K):
    model = dna(K=K).prompted(["GC"])
    v = value_of(dna(K=4).prompted(["GC"]))(particles_at(model, torch.zeros(1, 1, 12, dtype=torch.long), K // 2), 0.0)
    assert v.item() == 7 + 2 * 50


def test_equal_rows_are_asked_once_and_micro_batches_change_nothing():
    model = dna().prompted(["GC", "AT"])
    x = torch.randint(0, 2, (2, 50, 12), generator=torch.Generator().manual_seed(0))
    x[:, ::2] = x[:, :1]
    x[1, :10] = x[0, :10]  # equal rows of different prompts are different
    whole, small = value_of(model), value_of(model, evaluator=Evaluator(7))
    v = whole(particles_at(model, x, 2), 0.0)
    assert torch.equal(v, small(particles_at(model, x, 2), 0.0))
    assert torch.equal(v[1, :10], v[0, :10] + 2000)
    kinds = sum(len(part.unique(dim=0)) for part in x)
    assert whole.net.rows == small.net.rows == kinds < 60


def test_at_the_last_step_it_is_the_reward():
    model = dna().prompted(["GC"])
    x = torch.randint(0, 4, (1, 9, 12), generator=torch.Generator().manual_seed(0))
    value = value_of(model, target="soft", alpha=0.1)
    assert torch.equal(
        value(particles_at(model, x, 4), 0.5), PosteriorMean(resolve_reward(gc))(particles_at(model, x, 4))
    )
    assert value.net.rows == 0
    with pytest.raises(ValueError, match="give it one"):
        replace(value, reward=None)(particles_at(model, x, 4), 0.1)


@pytest.mark.parametrize("B", [1, 3])
def test_svdd_costs_one_row_for_each_request_and_step(B):
    """B K with a learned value, B + B M (K - 1) with a look-ahead, for a network that takes the time."""
    M, K, model = 5, 6, gaussian(K=6)
    value = value_of(model, first)
    run = guided.sample(model, first, SVDD(M), n=B, value=value)
    assert model.denoiser.rows == run.stats.network_rows == B * K
    assert value.net.rows == B * M * (K - 1) and run.stats.reward_calls == B  # the last step has no noise
    assert run.stats.seconds["value"] > 0
    assert guided.sample(gaussian(K=6), first, SVDD(M), n=B).stats.network_rows == B + B * M * (K - 1)


def test_svdd_selects_by_it():
    """A value that prefers a large sum leads to one."""
    model, reward = gaussian(K=6), lambda x: x.sum(1)
    run = guided.sample(model, reward, SVDD(8), n=20, value=value_of(model, reward))
    assert run.rewards.mean() > guided.sample(model, reward, "unguided", n=20).rewards.mean() + 2


def test_a_run_gives_it_its_reward_and_checks_it():
    model = dna()
    value = replace(value_of(model.prompted(["GC", "AT"])), reward=None)
    given = {"sampler": SVDD(3), "n": 4, "value": value}
    run = guided.sample(model, gc, prompt=["GC", "AT"] * 2, **given)
    assert run.rewards.tolist() == gc(run.samples)
    with pytest.raises(ValueError, match="the prompts 'GC', 'AT', the run has the prompt ''"):
        guided.sample(model, gc, **given)
    with pytest.raises(ValueError, match="fitted for the reward"):
        guided.sample(model, lambda s: [0.0] * len(s), prompt="GC", **given)
    guided.sample(model, sampler="unguided", value=value, prompt="", n=1)  # nobody asks it


def pinned(model):
    return model.pinned(torch.tensor([0] + [4] * 11))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: replace(m, identity="other"), 'identity was "dna" there and is "other" here'),
        (lambda m: replace(m, process=replace(m.process, length=13)), r"event was \[12\] there and is \[13\] here"),
        (lambda m: replace(m, process=replace(m.process, temperature=0.5)), "process was"),
        (lambda m: replace(m, process=replace(m.process, schedule="cosine")), "process was"),
        (pinned, "process was"),
        (lambda m: replace(m, process=gaussian().process), "event was"),
        (lambda m: m.prompted(["GC"], 2.0), "guidance was null there and is 2.0 here"),
        (lambda m: m.prompted(["AT"]), r"fitted for the prompt 'GC', the run has the prompt 'AT'"),
        (lambda m: m.prompted(["GC", ""]), "the run has the prompt ''"),
        (lambda m: m.with_requests(prompts=()), r"fitted for the prompt 'GC', the run has no prompt"),
    ],
)
def test_another_model_is_refused(change, message):
    model = dna().prompted(["GC"])
    with pytest.raises(ValueError, match=message):
        value_of(model).bind(change(model), resolve_reward(gc))


def test_what_does_not_change_the_law_is_not_refused():
    model = dna().prompted(["GC"])
    other = replace(dna(K=9).prompted(["GC", "GC"]), name="a copy in another folder", timed=True)
    value_of(model).bind(other, resolve_reward(gc))
    guided_model = dna().prompted(["GC"], 2.0)
    assert guided_model.requests.guidance is not None
    value_of(guided_model).bind(dna().prompted(["GC"] * 3, 2.0), resolve_reward(gc))


def test_a_model_without_identity_is_known_by_its_name():
    model = gaussian()
    with pytest.raises(ValueError, match='name was "model" there and is "another" here'):
        value_of(model, first).bind(replace(model, name="another"), resolve_reward(first))


@pytest.mark.parametrize(
    "other", [{gc: 1.0, first: 1.0}, "molwt", "similarity?target=CCO", "similarity?target=CC&weight=2"]
)
def test_another_reward_is_refused_unless_it_is_allowed(other):
    model = dna().prompted(["GC"])
    for value, objective in (
        (value_of(model), resolve_reward(other)),
        (value_of(model, "similarity?target=CCC"), resolve_reward(other)),
    ):
        with pytest.raises(ValueError, match=r"the value was fitted for the reward .*gc|target=CCC.*, the run has"):
            value.bind(model, objective)
        assert replace(value, any_reward=True).bind(model, objective).reward is objective
    value_of(model).bind(model, resolve_reward({gc: 1.0}))


@pytest.mark.parametrize("alpha", [0.1, 0.0, (0.1, 0.0), 0.1 * (1 + 1e-9)])
def test_a_soft_value_takes_its_own_temperature_and_zero(alpha):
    model = dna().prompted(["GC"])
    guided.sample(dna(), gc, SVDD(3, alpha), n=2, prompt="GC", value=value_of(model, target="soft", alpha=0.1))


@pytest.mark.parametrize("alpha", [0.2, (0.1, 0.05)])
def test_a_soft_value_refuses_another_temperature(alpha):
    model = dna().prompted(["GC"])
    soft, mean = value_of(model, target="soft", alpha=0.1), value_of(model)
    with pytest.raises(ValueError, match=r"a soft one for alpha = 0.1, the sampler has alpha = 0\.(2|05)"):
        guided.sample(dna(), gc, SVDD(3, alpha), n=2, prompt="GC", value=soft)
    with pytest.raises(ValueError, match=r"a soft one for alpha = 0\.1"):
        soft(particles_at(model, torch.zeros(1, 1, 12, dtype=torch.long), 1), 0.7)
    guided.sample(dna(), gc, SVDD(3, alpha), n=2, prompt="GC", value=mean)


def test_a_sampler_that_only_judges_the_end_asks_no_network():
    model = gaussian(K=4)
    value = value_of(model, first)
    run = guided.sample(model, first, BestOfN(4), n=3, value=value)
    assert value.net.rows == 0 and math.isfinite(run.rewards.mean())
    assert isinstance(model.denoiser, Counting)


class Bowl(Sum):
    def forward(self, x, t, prompt):
        return -x.square().sum(1) + t + prompt


def test_the_gradient_of_a_learned_value():
    """Of shift + scale net(x); classifier guidance follows it with no call of the reward before the end."""
    model = gaussian(4)
    value = replace(value_of(model, first), net=Bowl(), config={**value_of(model, first).config, "scale": 3.0})
    x = torch.tensor([[[1.0, -2.0], [0.5, 0.0]]])
    with torch.no_grad():
        v, g = value.slope(particles_at(model, x, 1))
    torch.testing.assert_close(v, value(particles_at(model, x, 1), 0.0))
    torch.testing.assert_close(g, -6 * x)
    calls = resolve_reward(first)
    with torch.no_grad():
        ClassifierGuidance(1.0)(model, replace(value, reward=calls), Streams(0, range(3)))
    assert calls.calls == 0
    run = guided.sample(model, first, ClassifierGuidance(1.0), n=3, value=value)  # of a reward without a gradient
    assert run.stats.reward_calls == 3
    with pytest.raises(ValueError, match="a learned value of tokens has no gradient"):
        value_of(dna()).check_slope(dna())
