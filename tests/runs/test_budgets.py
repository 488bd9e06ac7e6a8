"""A run stops at its budget, each request for itself: neither n, nor the batch, nor a resumption changes a sample."""

import csv
import json
import shutil

import pytest
import torch

import guided
from guided.errors import GuidedError
from guided.samplers import SVDD, BestOfN, ParticleGibbs, Refine, Tilt
from guided.scoring import registry
from tests.toys.small import tokens, vectors

BUDGETS = [{"budget_calls": 3}, {"budget_rows": 9}, {"budget_calls": 4, "budget_rows": 7}]
CHAINS = [
    Refine(6, 2, 0.3),
    Refine(6, 1, 0.3, "suffix"),
    ParticleGibbs(2, 0.3, rounds=4),
    Tilt(N=2, alpha=0.3, draws=2),
]
SAMPLERS = [SVDD(M=3), SVDD(M=3, alpha=0.5), BestOfN(6)]


class Text:
    """A reward of texts that counts what it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, samples):
        self.asked += samples
        return [sum("ACG".index(letter) * 3**i for i, letter in enumerate(s)) / 81 for s in samples]


def letters(samples):
    return [s.count("A") + 0.1 * s.count("CG") for s in samples]


@pytest.mark.parametrize("sampler", [*SAMPLERS, *CHAINS])
@pytest.mark.parametrize("budget", BUDGETS)
def test_no_request_spends_more(sampler, budget):
    for request in range(6):
        reward = Text()
        run = guided.sample(tokens(), reward, sampler, n=6, only=request, steps=4, **budget)
        assert len(reward.asked) == len(set(reward.asked)) == run.stats.reward_calls
        assert run.stats.reward_calls <= budget.get("budget_calls", 99)
        assert run.stats.network_rows <= budget.get("budget_rows", 99)
        assert run.samples[0] in reward.asked and 1 <= run.first_call[0] <= len(reward.asked)


@pytest.mark.parametrize("sampler", [*SAMPLERS, *CHAINS])
@pytest.mark.parametrize("budget", [{}, *BUDGETS])
def test_a_request_alone_and_among_others_is_the_same(sampler, budget):
    whole = guided.sample(tokens(), letters, sampler, n=8, steps=4, **budget)
    parts = guided.sample(tokens(), letters, sampler, n=8, steps=4, batch_size=3, **budget)
    assert (whole.samples, whole.first_call) == (parts.samples, parts.first_call)
    assert whole.stats.stopped == parts.stats.stopped
    for i in (0, 5):
        alone = guided.sample(tokens(), letters, sampler, n=8, steps=4, only=i, **budget)
        assert (alone.samples[0], alone.first_call[0]) == (whole.samples[i], whole.first_call[i])


@pytest.mark.parametrize("sampler", [*SAMPLERS, *CHAINS])
def test_a_large_budget_changes_nothing(sampler):
    plain = guided.sample(tokens(), letters, sampler, n=5, steps=4)
    rich = guided.sample(tokens(), letters, sampler, n=5, steps=4, budget_calls=999, budget_rows=999)
    assert plain.samples == rich.samples and plain.first_call == rich.first_call
    assert plain.stats.stopped == rich.stats.stopped == 0 and plain.stats.reward_calls == rich.stats.reward_calls


def test_svdd_finishes_with_the_models_own_steps():
    """One call is for the finished sample, so with a budget of one nothing is chosen before the end."""
    run = guided.sample(tokens(), letters, SVDD(M=4), n=5, steps=4, budget_calls=1)
    assert run.stats.stopped == 5 and run.first_call == [1] * 5
    hot = guided.sample(tokens(), letters, SVDD(M=4, alpha=1e9), n=400, steps=4, batch_size=400, budget_calls=1)
    own = guided.sample(tokens(), letters, "unguided", n=400, steps=4, batch_size=400)
    assert abs(hot.rewards.mean() - own.rewards.mean()) < 0.2
    assert hot.stats.network_rows <= 4 * 400


def test_the_best_of_those_that_were_scored_is_kept():
    reward = Text()
    run = guided.sample(tokens(), reward, BestOfN(9), n=1, steps=4, budget_calls=4)
    assert run.rewards[0] == max(Text()(reward.asked)) and len(reward.asked) <= 4


def test_continuous_models_have_budgets_too():
    def reward(rows):
        return [float(row[0]) for row in rows]

    run = guided.sample(vectors(conditional=False), reward, SVDD(M=4), n=3, budget_calls=7, budget_rows=9)
    alone = guided.sample(vectors(conditional=False), reward, SVDD(M=4), n=3, only=2, budget_calls=7, budget_rows=9)
    assert torch.allclose(run.samples[2], alone.samples[0]) and run.stats.stopped == 3
    assert run.stats.network_rows <= 27


def test_guided_rows_count_twice():
    def reward(rows):
        return [float(row[0]) for row in rows]

    run = guided.sample(vectors(), reward, BestOfN(5), n=2, prompt="a", guidance=3.0, budget_rows=20)
    assert run.stats.network_rows == 2 * 16  # 4 steps of 2 rows: 2 chains each


def test_rewards_of_tensors_are_counted_by_rows(monkeypatch):
    monkeypatch.setattr(registry, "_table", dict(registry._table))

    @guided.register_reward("zeros", takes="latents")
    def zeros(rows):
        return (rows == 0).double().mean(1)

    run = guided.sample(tokens(), "zeros", SVDD(M=3), n=4, steps=4, budget_calls=3)
    assert run.stats.stopped > 0 and max(run.first_call) <= 3


def test_no_time_left_is_one_chain():
    run = guided.sample(tokens(), letters, BestOfN(9), n=2, steps=4, budget_seconds=1e-9)
    assert run.stats.stopped == 2 and run.first_call == [1, 1]


@pytest.mark.parametrize("budget", BUDGETS[:2])
def test_a_resumed_run_ends_with_the_same_files(tmp_path, budget):
    given = {
        "reward": letters,
        "sampler": SVDD(M=3),
        "n": 7,
        "steps": 4,
        "batch_size": 3,
        "trust_rewards": True,
        **budget,
    }
    guided.sample(tokens(), out=tmp_path / "whole", **given)
    batches = guided.stream(tokens(), out=tmp_path / "part", **given)
    next(batches)
    batches.close()
    shutil.copytree(tmp_path / "part", tmp_path / "copy")
    run = guided.sample(tokens(), out=tmp_path / "part", **given)
    for name in ("samples.csv", "path.csv", "calls.csv"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert run.stats.stopped == json.loads((tmp_path / "whole" / "run.json").read_text())["stats"]["stopped"] > 0
    assert guided.open_run(tmp_path / "part").first_call == run.first_call
    with pytest.raises(GuidedError, match="holds another run: budget_"):
        guided.sample(tokens(), out=tmp_path / "copy", **{**given, next(iter(budget)): 99})


def test_a_folder_without_the_column_is_resumed_without_it(tmp_path):
    given = {"reward": letters, "sampler": SVDD(M=3), "n": 4, "steps": 4, "batch_size": 2, "trust_rewards": True}
    batches = guided.stream(tokens(), out=tmp_path, **given)
    next(batches)
    batches.close()
    rows = list(csv.reader((tmp_path / "samples.csv").open()))
    place = rows[0].index("first_call")
    with (tmp_path / "samples.csv").open("w", newline="") as file:
        csv.writer(file).writerows([row[:place] + row[place + 1 :] for row in rows])
    run = guided.sample(tokens(), out=tmp_path, **given)
    assert len(run.samples) == 4 and "first_call" not in (tmp_path / "samples.csv").read_text()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"budget_calls": 0}, "budget_calls is 0; it must be a whole number, at least 1"),
        ({"budget_rows": 2.5}, "budget_rows is 2.5"),
        ({"budget_seconds": 0}, "budget_seconds is 0; it must be above 0 seconds"),
        ({"budget_calls": 3, "value": lambda particles, alpha: None}, "value is .*counts no calls"),
    ],
)
def test_wrong_budgets(option, message):
    with pytest.raises(GuidedError, match=message):
        guided.sample(tokens(), letters, n=1, steps=4, **option)
