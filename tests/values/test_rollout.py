"""A rollout of one step is the posterior mean; of all steps, the model itself; and each step is a row."""

import pytest
import torch

import guided
from guided.core.graphs import Graphs, Noise
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.samplers import SVDD, Unguided
from guided.values.posterior_mean import PosteriorMean
from guided.values.rollout import Rollout, read_rollout
from tests.toys.chains import Chain, gaussian
from tests.toys.small import tokens, vectors


def letters(samples):
    return [s.count("A") + 0.1 * s.count("CG") for s in samples]


def first(rows):
    return [float(row[0]) for row in rows]


@pytest.mark.parametrize(("model", "reward"), [(tokens(), letters), (vectors(conditional=False), first)])
def test_one_step_is_the_posterior_mean(model, reward):
    one, plain = (guided.sample(model, reward, SVDD(4), n=5, value=v) for v in ("rollout?steps=1", None))
    assert all(map(lambda a, b: a == b if isinstance(a, str) else torch.equal(a, b), one.samples, plain.samples))
    assert one.stats.network_rows == plain.stats.network_rows


@pytest.mark.parametrize("k", [0, 1, 2])
def test_drawn_steps_to_the_end_are_the_models_own(k):
    """The values of one state are rewards of samples from it: their mean is that of the chain's exact ones."""
    chain = Chain(K=3)
    reward = torch.rand(len(chain.states), generator=torch.Generator().manual_seed(5)).double()
    value = Rollout(lambda x: reward[chain.index(x)], steps=3, draws=4000)
    model = chain.model()
    particles = model.start(Streams(0, range(30)))
    for _ in range(k):
        particles = particles.propose()
    alpha = 5.0
    exact = chain.soft_values(reward, alpha)[k][chain.index(particles.x)]
    states = chain.index(particles.x)[:, 0]
    found = torch.stack([value(particles, alpha) for _ in range(40)]).mean(0)
    for state in states.unique():
        here = states == state
        assert (found[here].mean() - exact[here].mean()).abs() < 0.05


def test_steps_without_noise_follow_the_deterministic_chain():
    model = gaussian(12)
    start = model.start(Streams(0, range(4)), 3)
    moved = Rollout(first, steps=12).moved(start)
    still = gaussian(12, eta=0.0).start(Streams(0, range(4)), 3)
    for _ in range(11):
        still = still.propose()
    assert torch.allclose(moved.x, still.x, atol=1e-5) and moved.model.process.time(11) == model.process.time(11)


def test_a_long_step_skips_noise_levels():
    process = gaussian(10).process.strided(4, 3)
    assert process.times == tuple(gaussian(10).process.times[k] for k in (4, 6, 8, 10))
    masked = Chain(K=10).process.strided(4, 3)
    assert [masked.time(k) for k in range(4)] == pytest.approx([0.6, 0.4, 0.2, 0.0])


def test_the_steps_of_graphs_cannot_be_long():
    with pytest.raises(GuidedError, match="takes no rollout"):
        Graphs((0, 1), 1, Noise("VP", 0.1, 1.0), Noise("VE", 0.1, 1.0), steps=4).strided(0, 2)


def test_each_step_is_a_row_of_each_candidate():
    model, K, M = gaussian(6), 6, 3
    SVDD(M)(model, Rollout(first, steps=3), Streams(0, range(2)))
    rows = sum(M * min(3, K - k) for k in range(1, K) if model.process.stochastic(k - 1))
    assert model.denoiser.rows == 2 * (1 + rows)


@pytest.mark.parametrize("budget", [{}, {"budget_rows": 25}, {"budget_calls": 5}], ids=str)
@pytest.mark.parametrize(("model", "reward"), [(tokens(), letters), (vectors(conditional=False), first)])
def test_a_request_alone_and_among_others_is_the_same(model, reward, budget):
    given = {"reward": reward, "sampler": SVDD(3), "n": 5, "steps": 4, "value": "rollout?steps=2&drawn=true", **budget}
    whole, alone = guided.sample(model, **given), guided.sample(model, only=3, **given)
    same = (
        whole.samples[3] == alone.samples[0]
        if reward is letters
        else torch.allclose(whole.samples[3], alone.samples[0])
    )
    assert same and alone.stats.network_rows <= budget.get("budget_rows", 99)


def test_a_folder_is_resumed_by_the_same_rollout(tmp_path):
    given = {"reward": letters, "sampler": SVDD(3), "n": 2, "steps": 4, "out": tmp_path, "trust_rewards": True}
    guided.sample(tokens(), value="rollout?steps=2", **given)
    with pytest.raises(GuidedError, match="holds another run: value"):
        guided.sample(tokens(), value="rollout?steps=3", **given)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("rollout?step=3", "a rollout has no 'step' .*did you mean 'steps'"),
        ("rollout?steps=0", "steps of a rollout is 0"),
        ("rollout?drawn=3", "drawn of a rollout is 3"),
        ("rollout?drawn=false", "always drawn"),
    ],
)
def test_wrong_rollouts(value, message):
    with pytest.raises(GuidedError, match=message):
        guided.sample(tokens(), letters, SVDD(3), n=1, value=value)


def test_a_rollout_without_a_search_is_told():
    assert read_rollout("runs/rollout") is None and read_rollout("rollout").steps == 3
    with pytest.warns(UserWarning, match="value has no effect"):
        guided.sample(tokens(), letters, Unguided(), n=1, value="rollout")
    assert isinstance(Rollout(first), PosteriorMean)
