"""Searches: what they cost, that they return the best they saw, and that no request depends on another."""

import math

import pytest
import torch

import guided
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.samplers import (
    SVDD,
    Beam,
    BestOfN,
    BlockBestOfN,
    Elite,
    NoiseSearch,
    Rollover,
    Tree,
    sampler_from_dict,
    sampler_to_dict,
)
from guided.samplers.beam import top
from guided.samplers.noise_search import Neighbours
from guided.samplers.population import PENALTIES, Population
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Chain, gaussian
from tests.toys.small import tokens, vectors

SEARCHES = [
    Beam(3, 2),
    Beam((1, 4), (3, 2), every=2),
    BlockBestOfN(3, 2),
    BlockBestOfN(3, 3, alpha=0.2),
    Rollover(3),
    Rollover(4, chunk=3),
    NoiseSearch(3, 3),
    Tree(6, every=2),
    Tree(6, alpha=0.3),
    Elite(4, 3, size=3),
    Elite(4, 3, penalty="step", room=1),
]
BEST = [search for search in SEARCHES if isinstance(search, Beam | NoiseSearch | Elite) or search == Tree(6, every=2)]


def letters(samples):
    return [s.count("A") + 0.1 * s.count("CG") - 0.01 * s.find("G") for s in samples]


def weighed(samples):
    rows = torch.tensor([["ACG".index(letter) for letter in sample] for sample in samples])
    return (rows * torch.tensor([1.0, 2.0, 4.1, -3.0])).sum(1).double()


def first(rows):
    return [math.sin(3 * float(row[0])) + float(row[1]) for row in rows]


def name(search):
    return str(search)[:40]


@pytest.mark.parametrize("budget", [{}, {"budget_calls": 5}, {"budget_rows": 14}], ids=str)
@pytest.mark.parametrize("search", SEARCHES, ids=name)
def test_a_request_alone_and_among_others_is_the_same(search, budget):
    whole = guided.sample(tokens(), letters, search, n=7, steps=4, **budget)
    parts = guided.sample(tokens(), letters, search, n=7, steps=4, batch_size=2, **budget)
    assert (whole.samples, whole.first_call) == (parts.samples, parts.first_call)
    for i in (3, 6):
        asked = []

        def counted(samples, asked=asked):
            asked += samples
            return letters(samples)

        alone = guided.sample(tokens(), counted, search, n=7, steps=4, only=i, **budget)
        assert (alone.samples[0], alone.first_call[0]) == (whole.samples[i], whole.first_call[i])
        assert len(asked) == len({*asked}) <= budget.get("budget_calls", 99)
        assert alone.stats.network_rows <= budget.get("budget_rows", 999)


@pytest.mark.parametrize("search", SEARCHES, ids=name)
def test_continuous_models_too(search):
    model = vectors(conditional=False)
    whole = guided.sample(model, first, search, n=4, budget_rows=40)
    alone = guided.sample(model, first, search, n=4, only=2, budget_rows=40)
    assert torch.allclose(whole.samples[2], alone.samples[0], atol=1e-5)
    assert alone.stats.network_rows <= 40


class Seen:
    """The reward, and the best finished sample that it was asked about."""

    def __init__(self, reward):
        self.reward, self.best = reward, -math.inf

    def __call__(self, particles, alpha):
        v = PosteriorMean(self.reward)(particles, alpha)
        if particles.done:
            self.best = max(self.best, v.max().item())
        return v


@pytest.mark.parametrize("search", BEST, ids=name)
@pytest.mark.parametrize("seed", range(6))
def test_the_best_finished_sample_is_returned(search, seed):
    seen = Seen(weighed)
    found = search(tokens().with_steps(4), seen, Streams(seed, [0]))
    assert found.done and weighed(tokens().decode(found.x[:, 0]))[0] == seen.best


def ask(model, search, B=2):
    """Network rows and reward calls of requests of a continuous model, where nothing is equal."""
    calls = []

    def reward(rows):
        calls.extend(rows)
        return [float(row[0]) for row in rows]

    search(model, PosteriorMean(reward), Streams(0, range(B)))
    return model.denoiser.rows / B, len(calls) / B


K = 6


@pytest.mark.parametrize(
    ("search", "rows", "calls"),
    [
        (Beam(3, 2), 3 + 6 * (K - 1), 6 * (K - 1) + 3 + 6 * 0),
        (BlockBestOfN(3, 2), 1 + 3 * (K - 1), 3 * K / 2),
        (BlockBestOfN(3, 2, interval=(0.5, 1)), 1 + 3 * (K - 1), 9),
        (NoiseSearch(3, 4), 12 * K, 12),
        (Tree(1), K, 1),
        (Elite(4, 3, level=0.5), 4 * K + 2 * 4 * 3, 12),
    ],
    ids=name,
)
def test_costs_are_those_that_are_stated(search, rows, calls):
    model = gaussian(K)
    counted = ask(model, search)
    noisy = model.process.stochastic(K - 1)
    if isinstance(search, Beam) and noisy:
        calls = 6 * K + 3  # and the beam at the end, which text would not be asked about again
    assert counted == (rows, calls)


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_rollover_draws_exactly_its_quota(chunk):
    model = gaussian(K)
    rows, calls = ask(model, Rollover(4, chunk), B=3)
    looks = sum(model.process.stochastic(k) for k in range(K))
    assert calls == 4 * looks  # the quotas of all steps
    assert rows <= 1 + 4 * K


def test_rollover_carries_on_what_it_saved():
    """The first candidate beats a start without a value, so all but one of the first quota is left."""
    model, drawn = gaussian(K), []

    def value(particles, alpha):
        drawn.append((particles.k, particles.x.shape[1]))
        return torch.full(particles.x.shape[:2], float(particles.k)).double()

    Rollover(3)(model, value, Streams(0, [0]))
    counts = [sum(n for k, n in drawn if k == step) for step in range(1, K + 1)]
    last = max(k for k in range(K) if model.process.stochastic(k))
    assert counts[:last] == [1] * last and counts[last] == 3 * (last + 1) - last


def test_the_beam_keeps_the_best_and_no_copies():
    model = tokens()
    candidates = model.start(Streams(0, [0, 1]), 6)
    candidates.x[0] = torch.tensor([0, 0, 1, 1, 2, 0])[:, None]
    candidates.x[1] = torch.tensor([0, 1, 2, 3, 3, 3])[:, None]
    v = torch.tensor([[5.0, 5, 4, 4, 1, 5], [1.0, math.nan, 3, 0, 0, 0]]).double()
    assert top(candidates, v, 4).tolist() == [[0, 2, 4, 1], [2, 0, 3, 1]]


def test_a_beam_of_one_is_svdd():
    value = PosteriorMean(weighed)
    model = tokens().with_steps(4)
    assert torch.equal(
        BlockBestOfN(4, 1)(model, value, Streams(3, range(9))).x, SVDD(4)(model, value, Streams(3, range(9))).x
    )


@pytest.mark.parametrize(
    ("block", "interval", "ends"),
    [
        (2, (0, 1), [2, 4, 6]),
        (2, (0.5, 1), [3, 5, 6]),
        (4, (0.5, 1), [3, 6]),
        (2, (0, 0.7), [2, 4, 6]),
        (1, (0.4, 0.7), [3, 4, 6]),
    ],
)
def test_chains_are_compared_in_the_interval_and_at_the_end(block, interval, ends):
    seen = []

    def value(particles, alpha):
        seen.append(particles.k)
        return torch.zeros(particles.x.shape[:2]).double()

    assert BlockBestOfN(2, block, interval=interval)(gaussian(K), value, Streams(0, [0])).done
    assert seen == ends


def test_a_block_of_the_whole_chain_is_best_of_n():
    value = PosteriorMean(weighed)
    x = BlockBestOfN(5, 4)(tokens().with_steps(4), value, Streams(0, range(300))).x
    y = BestOfN(5)(tokens().with_steps(4), value, Streams(1, range(300))).x
    means = [weighed(tokens().decode(rows[:, 0])).mean().item() for rows in (x, y)]
    assert abs(means[0] - means[1]) < 0.6


@pytest.mark.parametrize("make", [Chain().model, lambda: gaussian(5)])
def test_neighbours_are_chains_of_the_model(make):
    """Fresh and moved numbers have the same law, so that a centre nobody chose changes nothing."""
    model, moved = make(), []
    for step in (0.3, 1.0):
        noise = Neighbours(Streams(0, range(3000)), [[] for _ in range(3000)], step)
        start = model.start(noise, 1)
        for _ in range(model.steps):
            start = start.propose()
        again = Neighbours(Streams(1, range(3000)), [[n[0] for n in own] for own in noise.drawn], step)
        other = model.start(again, 1)
        for _ in range(model.steps):
            other = other.propose()
        assert (start.x.double().mean(0) - other.x.double().mean(0)).abs().max() < 0.1
        assert (start.x.double().std(0) - other.x.double().std(0)).abs().max() < 0.1
        moved.append((start.x - other.x).double().square().mean().item())
    assert 0 < moved[0] < moved[1]


def test_a_search_in_the_noise_of_a_deterministic_model_improves():
    model = gaussian(5, eta=0.0)
    value = PosteriorMean(lambda rows: rows[:, 0].double())
    best = BestOfN(48)(model, value, Streams(0, range(300))).x[:, 0, 0].mean()
    for search, gain in ((NoiseSearch(4, 12), 0.8), (Elite(4, 12), 0.2)):  # with a standard error of .025
        assert search(model, value, Streams(0, range(300))).x[:, 0, 0].mean() > best + gain, search


def test_parents_are_drawn_by_rank():
    herd = Population(3)
    herd.add([torch.tensor(i) for i in range(5)], [[1.0], [5.0], [math.nan], [3.0], [2.0]], "abcde", [""] * 5)
    assert [int(g) for g in herd.genomes] == [1, 3, 4]
    parents = torch.tensor(herd.parents(Streams(0, [0]).gumbel(20000, 3)[0], 0.1))
    weights = 1 / (0.1 * 3 + torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(parents.bincount() / 20000, weights / weights.sum(), atol=0.02, rtol=0)
    herd.add([torch.tensor(9)], [[9.0]], "b", [""])
    assert [int(g) for g in herd.genomes] == [1, 3, 4]  # seen before


def test_a_full_bucket_is_penalised():
    assert [PENALTIES["step"](n, 2) for n in range(4)] == [1, 1, 0, 0]
    assert [PENALTIES["linear"](n, 4) for n in (0, 1, 4, 9)] == [1, 0.75, 0, 0]
    assert PENALTIES["sigmoid"](5, 10) == 0.5 and PENALTIES["sigmoid"](0, 10) > 0.99 > 0.01 > PENALTIES["sigmoid"](
        10, 10
    )
    herd = Population(2, "step", room=1)
    herd.add([torch.tensor(i) for i in range(3)], [[3.0], [2.0], [1.0]], "abc", ["x", "x", "y"])
    assert [int(g) for g in herd.genomes] == [0, 2]
    low = Population(2, "step", room=1)
    low.add([torch.tensor(i) for i in range(3)], [[-1.0], [-1.5], [-1.6]], "abc", ["x", "x", "y"])
    assert [int(g) for g in low.genomes] == [0, 2]


def test_pinned_tokens_stay():
    model = tokens().with_steps(4).pinned(torch.tensor([3, 1, 3, 3]))
    for search in SEARCHES:
        assert (search(model, PosteriorMean(weighed), Streams(0, range(4))).x[..., 1] == 1).all()


@pytest.mark.parametrize("search", SEARCHES, ids=name)
def test_searches_are_rebuilt_from_plain_values(search):
    assert sampler_from_dict(sampler_to_dict(search)) == search


@pytest.mark.parametrize("search", SEARCHES, ids=name)
def test_unusable_rewards_still_give_samples(search):
    run = guided.sample(tokens(), lambda samples: [math.nan] * len(samples), search, n=2, steps=4, on_error="worst")
    assert len(run.samples) == 2 and all("?" not in sample for sample in run.samples)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Beam(0), "N is 0"),
        (lambda: BlockBestOfN(block=0), "block is 0"),
        (lambda: BlockBestOfN(interval=(1, 0.5)), "interval is"),
        (lambda: Rollover(chunk=0), "chunk is 0"),
        (lambda: NoiseSearch(step=0), "step is 0"),
        (lambda: Tree(alpha=-1), "alpha is -1"),
        (lambda: Tree(a=2), "a is 2"),
        (lambda: Elite(penalty="setp"), "did you mean 'step'"),
        (lambda: Elite(level=0), "level is 0"),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises(GuidedError, match=message):
        make()
