"""A run: sample i is sample i, whatever else is drawn; what it cost adds up."""

import math

import pytest
import torch

import guided
from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.core.prompting import Prompting
from guided.runs.config import RunConfig
from guided.runs.engine import Stats
from guided.runs.sample import idle_value, stream
from guided.samplers import SVDD, BestOfN, Unguided
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import gaussian

LETTERS = "ACGT"


def dna(L=10, K=8):
    """A masked model whose tokens are neither uniform nor independent of what is revealed."""
    w = torch.randn(L * 5, L * 4, generator=torch.Generator().manual_seed(0))

    def denoiser(x, t):
        return (torch.nn.functional.one_hot(x, 5).float().flatten(1) @ w).view(-1, L, 4).log_softmax(-1)

    decode = lambda x: ["".join(LETTERS[i] for i in row) for row in x.tolist()]  # noqa: E731
    return Diffusion(denoiser, Masked(L, 4, K), Codec(decode), timed=False)


def gc(samples):
    """Share of G and C."""
    return [(s.count("G") + s.count("C")) / len(s) for s in samples]


@pytest.fixture(scope="module")
def whole():
    return guided.sample(dna(), gc, SVDD(4), n=20, seed=3)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_changes_no_sample(whole, batch_size):
    assert guided.sample(dna(), gc, SVDD(4), n=20, seed=3, batch_size=batch_size).samples == whole.samples


def test_number_of_samples_changes_no_sample(whole):
    assert guided.sample(dna(), gc, SVDD(4), n=5, seed=3).samples == whole.samples[:5]


def test_only_draws_the_same_samples(whole):
    batches = list(stream(dna(), gc, SVDD(4), n=20, seed=3, batch_size=8, only=[17, 2, 3]))
    assert [batch.requests for batch in batches] == [[17], [2, 3]]
    assert [s for batch in batches for s in batch.samples] == [whole.samples[i] for i in (17, 2, 3)]


@pytest.mark.parametrize("sampler", [SVDD(2), BestOfN(2), Unguided()])
def test_networks_and_decoders_run_without_gradients(sampler):
    """Gradients are on again between the batches of a stream."""
    model, seen = dna(K=3), []

    def noted(function):
        def call(*arguments):
            seen.append(torch.is_grad_enabled())
            return function(*arguments)

        return call

    watched = Diffusion(noted(model.denoiser), model.process, Codec(noted(model.codec.decode)), timed=False)
    for _ in stream(watched, gc, sampler, n=4, batch_size=2):
        assert torch.is_grad_enabled()
    assert seen and not any(seen)


def test_another_seed_is_another_run(whole):
    assert guided.sample(dna(), gc, SVDD(4), n=20, seed=4).samples != whole.samples


def test_rewards_are_those_of_the_samples(whole):
    assert whole.rewards.tolist() == gc(whole.samples) == whole.columns["reward"]
    assert whole.rewards.mean() > 0.65


def test_batches_come_one_by_one_and_add_up():
    scored = []
    run = stream(dna(), lambda s: scored.append(len(s)) or gc(s), SVDD(4), n=12, batch_size=4)
    first = next(run)
    assert first.requests == [0, 1, 2, 3] and first.stats.reward_calls == sum(scored)
    total = sum((batch.stats for batch in run), first.stats)
    assert total.reward_calls == sum(scored) and total.seconds["total"] > 0
    assert total.network_rows == guided.sample(dna(), gc, SVDD(4), n=12, batch_size=4).stats.network_rows
    assert [value.step for value in first.path] == list(range(1, 9))
    assert Stats() + total == total


def test_a_batch_costs_the_same_whatever_came_before():
    """Reward calls are counted per batch, so a resumed run counts as an uninterrupted one."""
    second = list(stream(dna(), gc, SVDD(4), n=12, batch_size=4))[1]
    [alone] = stream(dna(), gc, SVDD(4), n=12, batch_size=4, only=[4, 5, 6, 7])
    assert alone.stats.reward_calls == second.stats.reward_calls
    assert alone.stats.network_rows == second.stats.network_rows


def test_progress_tells_every_step():
    seen = []
    guided.sample(dna(), gc, SVDD(4), n=6, batch_size=4, progress=seen.append)
    assert [(p.done, p.step) for p in seen] == [(d, k) for d in (0, 4) for k in range(1, 9)]
    best = [p.best for p in seen if p.best is not None]
    assert best == sorted(best) and len(best) == 15 and max(best) <= 1


def test_unguided_needs_no_reward_but_takes_one():
    run = guided.sample(dna(), sampler="unguided", n=3)
    assert run.rewards.isnan().all() and run.columns == {} and run.stats.reward_calls == 0
    scored = guided.sample(dna(), gc, sampler="unguided", n=3)
    assert scored.samples == run.samples and scored.rewards.tolist() == gc(run.samples)


def test_several_clean_draws_and_a_value_of_ones_own():
    assert guided.sample(dna(), gc, SVDD(4), n=20, seed=3, draws=8).rewards.mean() > 0.65
    at = PosteriorMean(lambda samples: torch.tensor([float(s.count("AT")) for s in samples]))
    run = guided.sample(dna(), gc, SVDD(8), n=20, value=at)  # guided by one, judged by another
    unguided = guided.sample(dna(), sampler="unguided", n=20).samples
    assert sum(s.count("AT") for s in run.samples) > sum(s.count("AT") for s in unguided) + 15
    assert run.rewards.tolist() == gc(run.samples)


def test_tensors_are_samples_too():
    run = guided.sample(gaussian(), lambda x: x[:, 0], SVDD(8), n=6)
    assert len(run.samples) == 6 and run.rewards.mean() > 0.8
    assert run.rewards.tolist() == [float(x[0]) for x in run.samples]


def test_a_reward_that_stops_the_run_loses_no_finished_batch():
    calls = []

    def tired(samples):
        calls.append(1)
        return gc(samples) if len(calls) < 12 else [math.nan] * len(samples)

    batches = []
    with pytest.raises(ValueError, match=r"tired.*nan"):
        for batch in stream(dna(), tired, SVDD(4), n=12, batch_size=4):
            batches.append(batch)
    assert len(batches) == 1


def conditional():
    table = {"AT": [0.4, 0.1, 0.1, 0.4], "GC": [0.1, 0.4, 0.4, 0.1], "": [0.25] * 4}

    def condition(prompts):
        unknown = [p for p in prompts if p not in table]
        if unknown:
            raise ValueError(f"unknown prompt {unknown[0]!r}")
        return {"p": torch.tensor([table[p] for p in prompts])}

    denoiser = lambda x, t, p: p.log()[:, None].expand(*x.shape, 4)  # noqa: E731
    decode = lambda x: ["".join(LETTERS[i] for i in row) for row in x.tolist()]  # noqa: E731
    return Diffusion(denoiser, Masked(50, 4, 10), Codec(decode), Prompting(condition), timed=False)


def test_each_request_has_its_own_prompt_and_guidance_sharpens_it():
    prompts = ["GC", "AT", "GC", "AT", "GC", "AT"]
    plain = gc(guided.sample(conditional(), sampler="unguided", n=6, prompt=prompts, batch_size=4).samples)
    assert min(plain[::2]) > 0.6 > 0.4 > max(plain[1::2])
    strong = guided.sample(conditional(), sampler="unguided", n=6, prompt=prompts, guidance=3.0, batch_size=4)
    assert min(gc(strong.samples)[::2]) > 0.9  # p ~ .4^3 / .25^2 against .1^3 / .25^2: 64 to 1
    assert strong.stats.network_rows % 2 == 0
    [batch] = stream(conditional(), sampler="unguided", n=6, prompt=prompts, only=[3])
    assert gc(batch.samples)[0] == plain[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"n": 2.0}, "n is 2.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"only": [5], "n": 5}, "request 5 is not among the 5"),
        ({"steps": 0}, "steps is 0"),
        ({"reward": None}, "needs a reward"),
        ({"prompt": "x"}, "takes no prompt"),
        ({"guidance": 2.0}, "takes no prompt and no guidance"),
        ({"sampler": "svd"}, "did you mean 'svdd'"),
        ({"model": "molecule"}, "did you mean 'molecules'"),
        ({"draws": 0}, "draws is 0"),
        ({"on_error": "ignore"}, "on_error"),
        ({"aggregate": "median"}, "aggregate"),
        ({"model": conditional(), "prompt": ["AT"], "n": 3}, "1 prompts for 3 samples"),
    ],
)
def test_wrong_input_is_told_before_anything_is_drawn(options, message):
    with pytest.raises(ValueError, match=message):
        stream(**{"model": dna(), "reward": gc, "sampler": "svdd", **options})


def test_a_report_needs_a_folder():
    with pytest.raises(ValueError, match="report needs out"):
        guided.sample("rna", "gc", n=1, steps=1, report=True)


@pytest.mark.parametrize("sampler", [BestOfN(4), SVDD(1), SVDD((1, 1)), Unguided()])
def test_a_learned_value_that_no_sampler_asks_is_told(sampler, tmp_path):
    """The value is the reward at the end: the samples are those without it."""
    config = RunConfig.of(model="rna", reward="gc", sampler=sampler, value=tmp_path)
    assert idle_value(config).startswith("value has no effect: ") and "\n" not in idle_value(config)


def test_a_value_that_is_asked_has_an_effect(tmp_path):
    own = lambda particles, alpha: None  # noqa: E731
    for sampler, value in ((SVDD(2), tmp_path), (SVDD((1, 2)), tmp_path), (BestOfN(2), own), (SVDD(1), None)):
        assert idle_value(RunConfig.of(model="rna", reward="gc", sampler=sampler, value=value)) == ""


def test_an_idle_value_is_a_warning_in_python():
    with pytest.warns(UserWarning, match=r"value has no effect: Unguided\(\) asks no value"):
        guided.sample(dna(), gc, "unguided", n=1, value=lambda particles, alpha: None)
