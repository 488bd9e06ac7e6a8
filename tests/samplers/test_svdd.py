"""SVDD against exact enumeration: all states of a small masked chain, soft values by dynamic programming."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guided.core.random import Streams
from guided.samplers import SVDD, BestOfN, Unguided, resolve_sampler, sampler_from_dict, sampler_to_dict
from guided.values.posterior_mean import PosteriorMean, soft_mean
from tests.toys.chains import Chain

N = 40_000


@pytest.fixture(scope="module")
def chain():
    return Chain()


@pytest.fixture(scope="module")
def reward(chain):
    """A reward of every state; it is never called on states with masks."""
    return torch.rand(len(chain.states), generator=torch.Generator().manual_seed(5)).double()


class Exact:
    """The exact soft value, for one temperature."""

    def __init__(self, chain, reward, alpha):
        self.chain, self.values = chain, chain.soft_values(reward, alpha)

    def __call__(self, particles, alpha):
        return self.values[particles.k][self.chain.index(particles.x)]


def frequencies(chain, sampler, value, n=N):
    x = sampler(chain.model(), value, Streams(0, range(n))).x[:, 0]
    return torch.bincount(chain.index(x), minlength=len(chain.states)).double() / n


def distance(p, q):
    """Total variation."""
    return 0.5 * (p - q).abs().sum().item()


def test_unguided_law_is_the_chains(chain):
    assert distance(frequencies(chain, Unguided(), None), chain.distribution()) < 0.01


def test_many_steps_give_the_data():
    chain = Chain(K=200)
    data = torch.zeros(len(chain.states), dtype=torch.float64)
    data[chain.index(chain.clean)] = chain.table
    assert distance(chain.distribution(), data) < 0.01


@pytest.mark.parametrize("alpha", [0.2, 0.5])
def test_law_approaches_the_tilted_law_as_M_grows(chain, reward, alpha):
    """With the exact soft value, SVDD's distribution goes to p(x) exp(r(x) / alpha) / Z."""
    tilted = chain.distribution() * (reward / alpha).exp()
    tilted /= tilted.sum()
    value = Exact(chain, reward, alpha)
    errors = [distance(frequencies(chain, SVDD(M, alpha), value), tilted) for M in (1, 4, 64)]
    assert errors[0] == pytest.approx(distance(chain.distribution(), tilted), abs=0.01)
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.015


def test_hot_alpha_gives_back_the_model(chain, reward):
    value = PosteriorMean(lambda x: reward[chain.index(x)])
    assert distance(frequencies(chain, SVDD(8, alpha=1e6), value), chain.distribution()) < 0.01


def test_one_candidate_gives_back_the_model(chain, reward):
    value = PosteriorMean(lambda x: reward[chain.index(x)])
    assert distance(frequencies(chain, SVDD(1, alpha=0.0), value), chain.distribution()) < 0.01


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_equals_a_brute_force_reference(seed, alpha):
    """A loop over single candidates, with no batching, no reuse and no shared code but the process's proposal."""
    chain = Chain(L=4, V=3, K=5)
    r = torch.rand(len(chain.states), generator=torch.Generator().manual_seed(1)).double()
    M, streams = 6, Streams(seed, [0])
    x = torch.full((1, 1, 4), 3)
    for k in range(5):
        candidates = chain.process.propose(x, chain.conditionals[chain.index(x)].float(), k, M, streams)
        scores = []
        for m in range(M):
            y = chain.conditionals[chain.index(candidates[0, m])].float()
            clean = [int(y[i].argmax()) if candidates[0, m, i] == 3 else int(candidates[0, m, i]) for i in range(4)]
            scores.append(r[chain.index(torch.tensor(clean))].item())
        gumbel = streams.gumbel(1, M)[0, 0].tolist()
        if alpha == 0:
            best = max(range(M), key=lambda m: (scores[m], gumbel[m]))
        else:
            best = max(range(M), key=lambda m: scores[m] / alpha + gumbel[m])
        x = candidates[:, best : best + 1]
    out = SVDD(M, alpha)(chain.model(), PosteriorMean(lambda rows: r[chain.index(rows)]), Streams(seed, [0])).x
    assert torch.equal(out, x)


def test_several_clean_draws_approach_the_exact_value(chain, reward):
    """Alpha log mean exp(r / alpha) over draws: one step before the end, the one-step distribution is the chain's."""
    alpha, k = 0.3, chain.K - 1
    value = PosteriorMean(lambda x: reward[chain.index(x)], draws=4000)
    particles = chain.model().restart(torch.zeros(20, 1, chain.L, dtype=torch.long), k, Streams(0, range(20)))
    exact = chain.soft_values(reward, alpha)[k][chain.index(particles.x)]
    torch.testing.assert_close(value(particles, alpha), exact, atol=0.02, rtol=0)
    assert particles.x.unique().numel() > 1


def test_soft_mean():
    r = torch.tensor([[1.0, 3.0], [-1e5, -1e5 + 1], [1e5, 0.0]], dtype=torch.float64)
    assert soft_mean(r, 0.0).tolist() == [3.0, -1e5 + 1, 1e5]
    torch.testing.assert_close(soft_mean(r[:2], 1e9), r[:2].mean(1), atol=1e-5, rtol=0)
    assert soft_mean(torch.full((1, 2), -torch.inf).double(), 1.0).item() == -torch.inf
    torch.testing.assert_close(soft_mean(r[:1], 1e18), r[:1].mean(1))
    torch.testing.assert_close(soft_mean(r[:1], 1.0), torch.tensor([0.5 * (torch.e + torch.e**3)]).double().log())


def test_best_of_n_is_the_best_of_each_requests_own(chain, reward):
    """P(best of N has reward <= q) = P(reward <= q)^N."""
    value = PosteriorMean(lambda x: reward[chain.index(x)])
    p, order = chain.distribution(), reward.argsort()
    cdf = frequencies(chain, BestOfN(4), value)[order].cumsum(0)
    torch.testing.assert_close(cdf, p[order].cumsum(0) ** 4, atol=0.01, rtol=0)


def test_unusable_rewards_leave_the_model(chain):
    for worst in (-torch.inf, torch.nan):
        value = PosteriorMean(lambda x, worst=worst: torch.full((len(x),), worst))
        for sampler in (SVDD(4), SVDD(4, alpha=0.5)):
            assert distance(frequencies(chain, sampler, value), chain.distribution()) < 0.01


@pytest.mark.parametrize("sampler", [SVDD(4, (0.5, 0.1), 2, (0.1, 0.9)), SVDD((2, 4)), BestOfN(3), Unguided()])
def test_samplers_are_rebuilt_from_plain_values(sampler):
    import json

    assert sampler_from_dict(json.loads(json.dumps(sampler_to_dict(sampler)))) == sampler
    assert resolve_sampler(sampler) is sampler
    assert resolve_sampler("svdd") == SVDD()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SVDD(M=0), "M is 0; it must be a whole number, at least 1"),
        (lambda: SVDD(M=2.5), "M is 2.5"),
        (lambda: SVDD(M=(4, 0)), "M is 0"),
        (lambda: SVDD(M=()), "empty schedule"),
        (lambda: SVDD(alpha=-1), "alpha is -1"),
        (lambda: SVDD(alpha=float("nan")), "alpha is nan"),
        (lambda: SVDD(alpha="hot"), "alpha is 'hot'"),
        (lambda: SVDD(M=((1, 2), 3)), "M is"),
        (lambda: SVDD(every=0), "every is 0"),
        (lambda: SVDD(every=(1, 2)), "every is"),
        (lambda: SVDD(interval=0.5), "two numbers"),
        (lambda: SVDD(interval=("a", 1)), "interval is 'a'"),
        (lambda: BestOfN((2, 3)), "N is"),
        (lambda: resolve_sampler(SVDD), "an instance"),
        (lambda: resolve_sampler(None), "an instance"),
        (lambda: sampler_from_dict({"name": "nowhere:Sampler"}), "cannot be imported"),
        (lambda: SVDD(interval=(0.5, 0.5)), "interval is"),
        (lambda: BestOfN(0), "N is 0"),
        (lambda: resolve_sampler("svd"), "did you mean 'svdd'"),
        (lambda: sampler_from_dict({"name": "svdd", "m": 3}), "did you mean|it takes M"),
        (lambda: sampler_from_dict({"name": "unguided", "M": 3}), "it takes nothing"),
        (lambda: PosteriorMean(len, draws=0), "draws is 0"),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_each_particle_chooses_among_its_own_candidates(chain):
    """Candidates of a particle lie one after another: with three each, the best of 0-2, of 3-5 and of 6-8."""
    value = torch.tensor([[0.0, 9.0, 1.0, 5.0, 2.0, 1.0, 0.0, 1.0, 8.0], [1.0, 0.0, 0.0, 0.0, 0.0, 3.0, 7.0, 0.0, 0.0]])
    candidates = chain.model().start(Streams(0, [0, 1]), 3).propose(3)
    chosen = SVDD(3).choose(candidates, lambda particles, alpha: value, 0.0, 3)
    assert chosen.tolist() == [[1, 3, 8], [0, 5, 6]]


@pytest.mark.parametrize("values", [[math.nan, 1.0, 2.0], [2.0, math.nan, 1.0], [math.nan, -math.inf, -math.inf]])
def test_best_of_n_never_takes_a_sample_without_a_value(chain, values):
    """Of a user's own value: nan cannot be compared."""
    seen = []

    def value(particles, alpha):
        seen.append(particles)
        return torch.tensor([values])

    best = BestOfN(3)(chain.model(), value, Streams(0, [0]))
    wanted = max((v, -i) for i, v in enumerate(values) if not math.isnan(v))
    assert torch.equal(best.x[0, 0], seen[-1].x[0, -wanted[1]]) or math.isinf(wanted[0])
    assert torch.equal(best.x, seen[-1].take(torch.tensor([[-wanted[1]]])).x) or math.isinf(wanted[0])
