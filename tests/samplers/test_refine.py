"""Refine against exact enumeration: the acceptance, with its reference points, leaves the tilted law as it is."""

import math
from itertools import pairwise

import pytest
import torch

from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.random import Streams
from guided.samplers import SVDD, Refine, refine, sampler_from_dict, sampler_to_dict
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Chain, gaussian
from tests.toys.laws import distance, drawn, frequencies, looking_ahead, scores, tilted

ALPHA, B = 0.4, 6000


@pytest.mark.parametrize("N", [1, 2, 4])
def test_suffixes_have_the_tilted_law(chain, reward, N):
    """Of a chain that reveals several tokens in a step, for any number of tries."""
    rounds = 12 // N + 6
    target, _ = tilted(chain, reward, ALPHA)
    sampler = Refine(rounds, N, ALPHA, "suffix", level=(1.0, 2 / 3, 1 / 3) * (rounds // 3))
    assert distance(drawn(chain, sampler, looking_ahead(chain, reward), B), target) < 0.02


def test_a_suffix_leaves_what_came_before(chain, reward):
    """Level 1/3 of three steps: tokens that are shown after two stay, and the law of the others given them holds."""
    sampler, value, streams = (
        Refine(12, 2, ALPHA, "suffix", level=1 / 3),
        looking_ahead(chain, reward),
        Streams(0, range(B)),
    )
    state = sampler.first(chain.model(), value, streams)
    again = sampler(chain.model(), value, Streams(0, range(B))).x  # begins with the same sample
    before = state.path[2]
    shown = before != chain.V
    assert torch.equal(again[shown], before[shown])
    P = chain.transition(2) * (reward / ALPHA).exp()
    P /= P.sum(1, keepdim=True)
    exact = P[chain.index(before).flatten()].mean(0)
    assert distance(frequencies(chain, chain.model().restart(again, 3, Streams(1, range(B)))), exact) < 0.02


def independent(K):
    """A chain of independent tokens: noising and its steps undo one another, however many tokens a step reveals."""
    chain = Chain(L=3, V=2, K=K)
    p = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.3, 0.7]]).double()
    chain.table = p.gather(1, chain.clean.T).prod(0)
    chain.conditionals = torch.stack([chain._conditional(x) for x in chain.states])
    return chain


def test_reference_points_are_drawn_from_the_chosen_try():
    """Where tries stay near the sample. With the other tries in their place the total variation is .06."""
    chain, alpha = independent(8), 0.3
    reward = scores(chain)
    found = drawn(chain, Refine(14, 8, alpha, level=0.25), looking_ahead(chain, reward), 4000)
    assert distance(found, tilted(chain, reward, alpha)[0]) < 0.03


@pytest.mark.parametrize("N", [1, 3])
def test_renoising_has_the_tilted_law_where_it_is_reversible(N):
    chain = independent(2)
    reward = scores(chain)
    sampler = Refine(12 if N == 1 else 6, N, ALPHA, level=0.5)
    assert distance(drawn(chain, sampler, looking_ahead(chain, reward), B), tilted(chain, reward, ALPHA)[0]) < 0.02


def renoised(chain, reward, k):
    """The law that Metropolis steps from noise at step k settle at, and the tilted table, by enumeration."""
    m, at = chain.process.rate(k), chain.index(chain.clean)
    masked = chain.states[None] == chain.V
    kept = (chain.states[None] == chain.clean[:, None]) & ~masked
    T = torch.where(masked, m, torch.where(kept, 1 - m, 0.0)).prod(2).double()
    for step in range(k, chain.K):
        T = T @ chain.transition(step)
    r = reward[at]
    T = T[:, at] * ((r - r[:, None]) / ALPHA).exp().clamp(max=1)
    T = (T - T.diag().diag()) + (1 - T.sum(1) + T.diag()).diag()
    target = chain.table * (r / ALPHA).exp()
    return torch.linalg.matrix_power(T, 2**20)[0], target / target.sum()


def test_renoising_settles_at_the_enumerated_law():
    """Of tokens that depend on each other, two of which may be revealed in one step."""
    chain = Chain(L=2, V=3, K=4, seed=3)
    reward = scores(chain)
    law = torch.zeros(len(chain.states)).double().index_put((chain.index(chain.clean),), renoised(chain, reward, 2)[0])
    assert distance(drawn(chain, Refine(20, 1, ALPHA, level=0.5), looking_ahead(chain, reward), B), law) < 0.02


def test_the_bias_of_renoising_falls_with_the_steps():
    """Half of the steps of three tokens: total variation .145 of 2 steps, .020 of 16, .0012 of 256."""
    found = []
    for K in (2, 4, 16, 64, 256):
        chain = Chain(L=3, V=2, K=K)
        found.append(distance(*renoised(chain, scores(chain), K // 2)))
    assert found[0] > 0.14 and found[2] < 0.02 and found[4] < 0.0013
    assert all(b < 0.6 * a for a, b in pairwise(found))


def test_renoising_a_gaussian():
    """Reward x of N(0, s^2): the mean becomes s^2 / alpha."""
    model, n = gaussian(15), 2000
    free = SVDD(1).run(model.start(Streams(1, range(n))), PosteriorMean(lambda x: x[:, 0])).x
    x = Refine(12, 2, 1.5, level=0.7)(model, PosteriorMean(lambda x: x[:, 0]), Streams(0, range(n))).x[:, 0]
    assert x[:, 0].mean().item() == pytest.approx(free.var().item() / 1.5, abs=0.08)
    assert x[:, 0].var().item() == pytest.approx(free.var().item(), abs=0.12)
    assert x[:, 1].mean().item() == pytest.approx(0, abs=0.08)


def test_the_level_is_adapted_to_an_acceptance_of_a_third(monkeypatch):
    accepted, step = [], refine.multiple_try

    def spy(*arguments):
        state, taken = step(*arguments)
        accepted.append((arguments[3], taken))
        return state, taken

    monkeypatch.setattr(refine, "multiple_try", spy)
    n = 80
    Refine(40, alpha=0.05)(gaussian(30), PosteriorMean(lambda x: -x.square().sum(1)), Streams(0, range(n)))
    total, late = 0, []
    for _, taken in accepted:  # rounds have n requests each, in parts
        total += len(taken)
        late += taken.tolist() if total > 30 * n else []
    assert 0.2 < sum(late) / len(late) < 0.4
    assert len({k for k, _ in accepted[-10:]}) > 3  # each request has its own level


@pytest.mark.parametrize("sampler", [Refine(8, 2, ALPHA), Refine(6, 1, ALPHA, "suffix", level=0.0), Refine(3, span=2)])
def test_a_request_is_the_same_alone_and_among_others(chain, reward, sampler):
    chain = Chain(K=6)
    value = looking_ahead(chain, reward)
    among = sampler(chain.model(), value, Streams(3, range(20))).x
    for i in (0, 7, 19):
        assert torch.equal(sampler(chain.model(), value, Streams(3, [i])).x[0], among[i])


def test_cost_in_network_rows_and_reward_calls():
    """K rows and a call for the first sample, then 2 N - 1 times level K rows and a call, each round."""
    for N in (1, 3):
        model, scored = gaussian(20), []
        value = PosteriorMean(lambda x, scored=scored: scored.append(len(x)) or x[:, 0])
        Refine(4, N, level=0.25)(model, value, Streams(0, range(2)))
        assert model.denoiser.rows == 2 * (20 + 4 * (2 * N - 1) * 5)
        assert sum(scored) == 2 * (1 + 4 * (2 * N - 1))


def test_the_best_is_the_best_of_all_that_were_scored_in_a_request(chain, reward):
    """As many requests: the best of one is known when it is drawn alone."""
    for i in range(6):
        seen = []
        value = PosteriorMean(
            lambda x, seen=seen: seen.extend(reward[chain.index(x)].tolist()) or reward[chain.index(x)]
        )
        x = Refine(3, 1, 0.05, best=True)(chain.model(), value, Streams(i, [0])).x
        assert reward[chain.index(x)].item() == max(seen)


LETTERS = "ab"


def spelled(chain, **options):
    codec = Codec(
        lambda x: ["".join(LETTERS[i] for i in row) for row in x.tolist()],
        encode=lambda word: torch.tensor([LETTERS.index(letter) for letter in word]),
    )
    return Diffusion(lambda x, t: torch.zeros(len(x), chain.L, chain.V), chain.process, codec, timed=False, **options)


def few_b(words):
    return [-word.count("b") for word in words]


@pytest.mark.parametrize(
    ("options", "free"), [({"region": (1, 4)}, range(1, 4)), ({"region": [2, 6], "span": 2}, range(2, 6))]
)
def test_a_given_sample_changes_in_its_region_only(options, free):
    model = spelled(Chain(L=6, K=12))
    words = model.decode(
        Refine(30, 1, 0.01, sample="bbbbbb", **options)(model, PosteriorMean(few_b), Streams(0, range(9))).x[:, 0]
    )
    expected = "".join("a" if i in free else "b" for i in range(6))
    assert set(words) == {expected}


def test_a_span_masks_neighbours_only():
    model = spelled(Chain(L=6, K=12))
    words = model.decode(
        Refine(1, 1, 1e6, sample="bbbbbb", span=3)(model, PosteriorMean(few_b), Streams(0, range(400))).x[:, 0]
    )
    places = [[i for i, letter in enumerate(word) if letter == "a"] for word in words]
    assert max(max(place) - min(place) for place in places if place) == 2
    assert {place[0] for place in places if place} == set(range(6))


def test_pinned_tokens_stay():
    model = spelled(Chain(L=6, K=12)).pinned(torch.tensor([1, 2, 2, 2, 2, 1]))
    for options in ({"span": 3}, {"region": (0, 4)}, {}):
        sampler = Refine(10, 1, 0.01, sample="bbbbbb", **options)
        words = model.decode(sampler(model, PosteriorMean(few_b), Streams(0, range(20))).x[:, 0])
        assert {word[0] + word[5] for word in words} == {"bb"} != {word[1] for word in words}


@pytest.mark.parametrize("N", [1, 2, 4])
def test_the_best_is_that_of_all_that_were_scored(chain, reward, N):
    """Reference points, too."""
    seen: dict[int, float] = {}

    def scores(x):
        found = reward[chain.index(x)]
        seen[0] = max(seen.get(0, -math.inf), found.max().item())
        return found

    for request in range(40):
        seen.clear()
        x = Refine(3, N, ALPHA, best=True, level=0.7)(chain.model(), PosteriorMean(scores), Streams(0, [request])).x
        assert reward[chain.index(x)].item() == seen[0]


def test_the_first_sample_may_come_from_another_sampler(chain, reward):
    sampler = Refine(1, level=1.0, start={"name": "svdd", "M": 3})
    assert sampler == Refine(1, level=1.0, start=SVDD(M=3))
    assert sampler_from_dict(sampler_to_dict(sampler)) == sampler
    value = looking_ahead(chain, reward)
    first = sampler.first(chain.model(), value, Streams(0, range(5)))
    assert torch.equal(first.path[3], SVDD(M=3)(chain.model(), value, Streams(0, range(5))).x)


def test_samples_without_a_reward_are_left_behind(chain, reward):
    some = reward.clone()
    some[chain.index(chain.clean)[::2]] = math.nan  # those that end in 0
    x = Refine(20, 2, ALPHA, "suffix", level=1.0)(chain.model(), looking_ahead(chain, some), Streams(0, range(400))).x
    assert (x[..., -1] == 1).float().mean() > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"N": 0}, "N is 0"),
        ({"alpha": 0}, "alpha is 0"),
        ({"kind": "prefix"}, "it is one of renoise, suffix"),
        ({"level": 1.5}, "level is 1.5"),
        ({"level": (0.5, 0.0)}, "level is"),
        ({"kind": "suffix", "start": "svdd"}, "needs the whole path of its sample"),
        ({"kind": "suffix", "span": 2}, "needs the whole path of its sample"),
        ({"start": "svd"}, "did you mean 'svdd'"),
        ({"region": (3, 1)}, "the first below the last"),
        ({"region": 3}, "two positions"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        Refine(**options)


def test_spans_are_of_tokens_that_are_there(chain, reward):
    value = looking_ahead(chain, reward)
    with pytest.raises(ValueError, match="only masked models have spans"):
        Refine(span=2)(gaussian(), PosteriorMean(lambda x: x[:, 0]), Streams(0, [0]))
    for options, there in (
        ({"span": 4}, "span is 4; it must lie within the positions, 3 of a sample"),
        ({"region": (0, 4)}, r"region is \(0, 4\); it must lie within the positions, 3 of a sample"),
        ({"region": (0, 1), "span": 2}, "span is 2; it must lie within the positions, 1 of the region"),
    ):
        with pytest.raises(ValueError, match=there):
            Refine(**options)(chain.model(), value, Streams(0, [0]))
