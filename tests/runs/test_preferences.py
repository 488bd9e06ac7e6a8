"""Weights that differ from sample to sample: each sample is the one that a run with its weights alone would draw."""

import numpy as np
import pytest
import torch

import guided
from guided.errors import GuidedError
from guided.metrics.pareto import gaps
from guided.runs.adaptive import Adaptive
from guided.runs.preferences import Preferences
from guided.samplers import SVDD, BestOfN
from guided.scoring.scalarise import AGGREGATES
from guided.values.posterior_mean import PosteriorMean
from tests.runs.test_sample import dna, gc


def purines(samples):
    """Share of A and G."""
    return [(s.count("A") + s.count("G")) / len(s) for s in samples]


def few_a(samples):
    """The number of A."""
    return [float(s.count("A")) for s in samples]


WEIGHTS = [[1, 0], [1, 3], [0.5, 0.5], [0, 2]]
RUN = {"sampler": SVDD(4), "n": 4, "seed": 3}
ADAPTIVE = {"preferences": "adaptive", "batch_size": 3}


@pytest.mark.parametrize("aggregate", ["mean", "product", "tchebycheff"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_sample_is_the_one_of_a_run_with_its_weights(aggregate, batch_size):
    rewards = [gc, purines]
    run = guided.sample(dna(), rewards, **RUN, preferences=WEIGHTS, aggregate=aggregate, batch_size=batch_size)
    for i, weights in enumerate(WEIGHTS):
        kept = {reward: w for reward, w in zip(rewards, weights, strict=True) if w}
        alone = guided.sample(dna(), kept, **RUN, aggregate=aggregate)
        assert run.samples[i] == alone.samples[i]
        assert run.rewards[i].item() == pytest.approx(alone.rewards[i].item())
    assert run.columns["gc_weight"] == [1, 0.25, 0.5, 0] and run.columns["purines_weight"] == [0, 0.75, 0.5, 1]
    assert run.rewards.tolist() == run.columns["reward"]


@pytest.mark.parametrize("how", ["grid=3", "dirichlet"])
def test_the_weights_of_a_sample_do_not_depend_on_the_other_samples(how):
    given = {"preferences": how, "sampler": SVDD(3), "seed": 5}
    many = guided.sample(dna(), [gc, purines], n=7, batch_size=3, **given)
    few = guided.sample(dna(), [gc, purines], n=2, **given)
    [only] = guided.stream(dna(), [gc, purines], n=7, batch_size=3, only=4, **given)
    assert few.samples == many.samples[:2] and few.columns["gc_weight"] == many.columns["gc_weight"][:2]
    assert list(only.samples) == [many.samples[4]] and only.columns["gc_weight"] == [many.columns["gc_weight"][4]]
    if how == "grid=3":
        assert many.columns["gc_weight"] == [0, 0.5, 1, 0, 0.5, 1, 0]


def test_dirichlet_weights_are_uniform_over_the_simplex():
    w = Preferences.given("dirichlet", "preferences", 3, 1, 0).of(range(4000))
    assert w.sum(1).numpy() == pytest.approx(1) and w.mean(0).numpy() == pytest.approx(1 / 3, abs=0.01)
    assert w.var(0).numpy() == pytest.approx(1 / 18, rel=0.1)
    assert not torch.equal(w, Preferences.given("dirichlet", "preferences", 3, 1, 1).of(range(4000)))


def test_draws_and_weights_of_the_rewards_count_too():
    """Preferences multiply the rewards' own weights; values average draws after they are weighted."""
    given = {"sampler": SVDD(4, alpha=0.1), "n": 4, "seed": 3, "draws": 3}
    run = guided.sample(dna(), {gc: 3.0, purines: 1.0}, **given, preferences=[[0.25, 0.75]] * 4)
    assert run.samples == guided.sample(dna(), [gc, purines], **given).samples
    assert run.samples != guided.sample(dna(), {gc: 3.0, purines: 1.0}, **given).samples


def test_constraints_have_no_weights(tmp_path):
    (tmp_path / "few.py").write_text("def few(samples):\n    return [float(s.count('A')) for s in samples]\n")
    limit = f"{tmp_path / 'few.py'}:few?below=1"
    run = guided.sample(dna(), [gc, purines, limit], BestOfN(64), n=4, preferences="grid=3")
    assert set(run.columns) >= {"gc_weight", "purines_weight", "few"} and "few_weight" not in run.columns
    assert all(x <= 1 for x in run.columns["few_raw"]) and run.columns["few"] == [0] * 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"preferences": "grid"}, "preferences is 'grid'; it is dirichlet, adaptive, or grid="),
        ({"preferences": "grid=1"}, "from 2, one for each reward"),
        ({"preferences": [[1, 2]]}, r"has shape \(1, 2\); 4 samples and 2 rewards need \(4, 2\)"),
        ({"preferences": [[1, -2]] * 4}, "a finite number >= 0"),
        ({"preferences": [[0, 0]] * 4}, "a row of zeros"),
        ({"preferences": 3.0}, r"has shape \(\)"),
        ({"preferences": object()}, "it must be n rows of weights"),
        ({"preferences": "dirichlet", "value": PosteriorMean(gc)}, "a value is of one reward"),
        ({"preferences": "dirichlet", "reward": gc}, "the run has 1 that are no constraints"),
        ({"preferences": "dirichlet", "reward": None, "sampler": "unguided"}, "the run has 0"),
        ({"preferences": "adaptive"}, "with 4 samples take a batch_size below 4, as 1"),
        ({**ADAPTIVE, "only": 2}, "give its weights as rows"),
        ({**ADAPTIVE, "devices": 2}, "draw in one process"),
    ],
)
def test_wrong_preferences_are_refused(given, said):
    with pytest.raises(GuidedError, match=said):
        guided.sample(dna(), **{"reward": [gc, purines], **RUN, **given})


def test_arrays_are_preferences_and_a_folder_is_resumed_with_the_same_only(tmp_path):
    run = guided.sample(dna(), [gc, purines], **RUN, preferences=np.array(WEIGHTS), trust_rewards=True)
    assert run.samples == guided.sample(dna(), [gc, purines], **RUN, preferences=WEIGHTS).samples
    guided.sample(dna(), [gc, purines], **RUN, preferences="grid=3", out=tmp_path)
    with pytest.raises(GuidedError, match="preferences"):
        guided.sample(dna(), [gc, purines], **RUN, preferences="grid=4", out=tmp_path)
    guided.sample(dna(), [gc, purines], **RUN, preferences="grid=3", out=tmp_path)


def test_a_value_of_requests_with_weights_needs_an_objective():
    model = dna().with_requests(weights=torch.ones(1, 2))
    particles = model.start(guided.core.random.Streams(0, [0]))
    with pytest.raises(GuidedError, match="which only an objective takes"):
        PosteriorMean(gc)(particles, 0.0)


@pytest.mark.parametrize("aggregate", ["mean", "product", "tchebycheff"])
def test_adaptive_weights_are_those_of_the_gaps_of_the_batches_before(aggregate):
    """Each sample is the one of a run with its weights; those of a batch look across gaps."""
    given = {**ADAPTIVE, "sampler": BestOfN(4), "n": 12, "seed": 3, "aggregate": aggregate}
    run = guided.sample(dna(), [gc, purines], **given)
    weights = np.array([run.columns["gc_weight"], run.columns["purines_weight"]]).T
    assert weights[:3].tolist() == [[0, 1], [0.5, 0.5], [1, 0]]
    scores = np.array([run.columns["gc"], run.columns["purines"]]).T
    for start in (3, 6, 9):
        there = Adaptive([], [], [], aggregate)
        across = np.array([there.across(*gap) for gap in gaps(scores[:start], [1, 1])])
        across /= across.sum(1, keepdims=True)
        for w in weights[start : start + 3]:
            assert np.abs(across - w).sum(1).min() < 1e-12
    again = guided.sample(dna(), [gc, purines], **{**given, "preferences": weights, "batch_size": 64})
    assert again.samples == run.samples and again.rewards.tolist() == pytest.approx(run.rewards.tolist())
    longer = guided.sample(dna(), [gc, purines], **{**given, "n": 15})
    assert longer.samples[:12] == run.samples


def test_an_adaptive_run_that_was_stopped_is_resumed(tmp_path):
    given = {**ADAPTIVE, "sampler": BestOfN(3), "n": 8, "seed": 3, "trust_rewards": True}
    whole = guided.sample(dna(), [gc, purines], out=tmp_path / "whole", **given)
    batches = guided.stream(dna(), [gc, purines], out=tmp_path / "stopped", **given)
    next(batches), next(batches)
    batches.close()
    resumed = guided.sample(dna(), [gc, purines], out=tmp_path / "stopped", **given)
    assert resumed.samples == whole.samples and resumed.columns == whole.columns
    texts = [(tmp_path / name / "samples.csv").read_bytes() for name in ("whole", "stopped")]
    assert texts[0] == texts[1]


def test_adaptive_weights_take_the_rewards_own_into_account():
    """Weights are products: what is twice as heavy already is asked for half as much."""
    scores = {"a": [0.2, 0.8], "b": [0.9, 0.5], "a_weight": [0.5, 0.5], "b_weight": [0.5, 0.5]}
    plain, heavy = Adaptive(["a", "b"], [], [1.0, 1.0]), Adaptive(["a", "b"], [], [2.0, 1.0])
    for weights in (plain, heavy):
        weights.learn([0, 1], scores)
    one, two = plain(range(2, 9)), heavy(range(2, 9))
    scaled = two * torch.tensor([2.0, 1.0])
    assert torch.allclose(scaled / scaled.sum(1, keepdim=True), one)
    assert len(one.unique(dim=0)) > 1 and torch.equal(plain([0]), torch.tensor([[0.5, 0.5]]).double())


@pytest.mark.parametrize("aggregate", ["mean", "product", "tchebycheff"])
@pytest.mark.parametrize("points", [[(0.2, 0.9), (0.7, 0.4)], [(0.2, 0.9, 0.3), (0.7, 0.4, 0.5)]], ids=str)
def test_the_weights_of_a_gap_prefer_its_corner_and_neither_side(aggregate, points):
    """By mean and product both sides are equally good; Tchebycheff's distances of the corner are the same in all."""
    a, b = map(np.array, points)
    w = Adaptive([], [], [], aggregate).across(a, b)
    side, other, corner = (float(AGGREGATES[aggregate](x[:, None], w[:, None])[0]) for x in (a, b, np.maximum(a, b)))
    assert corner > max(side, other)
    if aggregate == "tchebycheff":
        distances = w * (1 - np.maximum(a, b))
        assert distances == pytest.approx(distances.mean())
    else:
        assert side == pytest.approx(other)


def test_failed_samples_and_violated_constraints_teach_nothing():
    weights = Adaptive(["a", "b"], ["limit"], [1.0, 1.0])
    even = {"a_weight": [0.5] * 2, "b_weight": [0.5] * 2}
    weights.learn([0, 1], {"a": [0.9, -np.inf], "b": [0.9, 0.1], "limit": [-0.1, 0.0], **even})
    assert weights.chosen(3).tolist() == [[0, 1], [0.5, 0.5], [1, 0]]


@pytest.mark.parametrize("aggregate", ["mean", "tchebycheff"])
def test_rollouts_go_with_preferences(aggregate):
    """Each sample is the one that a run with its weights and the same rollouts would draw."""
    given = {**RUN, "aggregate": aggregate, "value": "rollout?steps=2", "draws": 2}
    run = guided.sample(dna(), [gc, purines], preferences=WEIGHTS, **given)
    for i, weights in enumerate(WEIGHTS):
        kept = {reward: w for reward, w in zip([gc, purines], weights, strict=True) if w}
        assert run.samples[i] == guided.sample(dna(), kept, **given).samples[i]
    assert run.samples != guided.sample(dna(), [gc, purines], preferences=WEIGHTS, **{**given, "value": None}).samples
