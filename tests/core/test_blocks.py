"""Masked text in blocks: the chain's law by enumeration, and what holds in every step."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guided.core import blocks
from guided.core.blocks import Blocks, Commits
from guided.core.diffusion import Diffusion
from guided.core.random import Streams
from guided.fitting.negative.levels import check_kind
from guided.samplers import SVDD, Refine, Tilt, Unguided
from guided.values.posterior_mean import PosteriorMean
from tests.toys.texts import BlockChain, apart

N = 4000
RULES = {
    "shares": Commits(threshold=2.0),
    "sure": Commits(threshold=0.6, temperature=0.7),
    "edits": Commits(threshold=0.6, editing=0.5, after=2),
    "ends": Commits(threshold=0.6, end=1),
    "all": Commits(temperature=1.5, threshold=0.4, editing=0.3, after=1, end=0),
}


@pytest.fixture(scope="module", params=RULES)
def chain(request):
    return BlockChain(RULES[request.param], prompt=len(request.param) % 2)


def drawn(chain, sampler, value=None, n=N, **options):
    with torch.no_grad():
        return sampler(chain.model(**options), value, Streams(0, range(n))).x


def test_the_law_of_every_step_is_the_rules(chain):
    particles = chain.model().start(Streams(0, range(N)))
    for law in chain.laws()[1:]:
        particles = particles.propose()
        assert apart(chain.shares(particles.x), law) < 0.04


def test_all_texts_are_finished_at_the_end_and_no_sooner(chain):
    *before, last = chain.laws()
    done = [chain.process.finished(torch.tensor([*law])) for law in (before[-1], last)]
    assert done[1].all()
    masked = (torch.tensor([*last])[:, : chain.process.length] == chain.V).any(1)
    assert not masked.any() or chain.rule.end is not None


def test_svdd_with_the_exact_value_approaches_the_tilted_law():
    alpha, chain = 0.4, BlockChain(RULES["all"], prompt=1)
    last = chain.laws()[-1]
    numbers = torch.rand(len(last), generator=torch.Generator().manual_seed(5)).tolist()
    reward = dict(zip(last, numbers, strict=True))
    values = chain.soft_values(reward, alpha)

    def value(particles, _):
        states, index = particles.x.flatten(0, 1).unique(dim=0, return_inverse=True)
        known = torch.tensor([values[particles.k][tuple(s)] for s in states.tolist()], dtype=torch.float64)
        return known[index].view(particles.x.shape[:2])

    tilted = {x: p * math.exp(reward[x] / alpha) for x, p in last.items()}
    total = sum(tilted.values())
    tilted = {x: p / total for x, p in tilted.items()}
    errors = [apart(chain.shares(drawn(chain, SVDD(M, alpha), value)), tilted) for M in (1, 4, 16)]
    assert errors[0] == pytest.approx(apart(last, tilted), abs=0.03)
    assert errors[0] > 2 * errors[1] and errors[0] > 3 * errors[2] and errors[2] < 0.04


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(sorted(RULES)), prompt=st.integers(0, 1))
def test_svdd_equals_a_loop_over_single_candidates(alpha, seed, name, prompt):
    """No batching, no reuse, and no shared code but the proposal: each look-ahead is of the candidate's own state."""
    chain, M, streams = BlockChain(RULES[name], prompt=prompt), 4, Streams(seed, [0])
    r = torch.rand(3**4, generator=torch.Generator().manual_seed(1)).double()
    x = torch.tensor(chain.begin)[None, None]
    for k in range(chain.process.steps):
        candidates = chain.process.propose(x, chain.table[chain.index(x)], k, M, streams)
        scores = [r[chain.index(torch.tensor([chain.clean(tuple(c))]))].item() for c in candidates[0].tolist()]
        gumbel = streams.gumbel(1, M)[0, 0].tolist()
        keys = [(s / alpha + g, 0.0) if alpha else (s, g) for s, g in zip(scores, gumbel, strict=True)]
        best = keys.index(max(keys))
        x = candidates[:, best : best + 1]
    out = SVDD(M, alpha)(chain.model(), PosteriorMean(lambda rows: r[chain.index(rows)]), Streams(seed, [0])).x
    assert torch.equal(out, x)


def test_a_hot_alpha_and_one_candidate_give_back_the_model(chain):
    value = PosteriorMean(lambda x: x.double().sum(1))
    for sampler in (SVDD(4, alpha=1e6), SVDD(1)):
        assert apart(chain.shares(drawn(chain, sampler, value)), chain.laws()[-1]) < 0.04


HALF = Commits(threshold=0.5)


def uniform(L=10, V=5, block=4, refinements=3, commits=HALF, **options):
    process = Blocks(L, V, block, refinements, commits, **options)
    table = torch.randn(process.output, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    return Diffusion(lambda x, t: table.expand(len(x), *table.shape), process, timed=False)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 5), st.integers(1, 6), st.booleans())
def test_blocks_are_filled_from_left_to_right_and_revealed_tokens_stay(seed, L, block, refinements, whole):
    model = uniform(L, block=block, refinements=refinements, whole=whole)
    process, particles = model.process, model.start(Streams(seed, [0]))
    particles.x[..., process.size] = seed % block
    while not particles.done:
        before = particles.x.repeat_interleave(3, 1)
        start, stop = process.spans(before)
        particles = particles.propose(3)
        x, at = particles.x[..., : process.size], torch.arange(process.size)
        own = before[..., : process.size]
        assert torch.equal(x[own != process.mask], own[own != process.mask])
        assert (x == own)[(at < start[..., None]) | (at >= stop[..., None])].all()
        assert (x[at < start[..., None]] != process.mask).all()
        clean = particles.look_ahead().rows
        assert process.finished(clean).all()
        reach = L if whole else int(process.spans(particles.x)[1].amin())
        assert (clean[:, :reach] != process.mask).all()
        particles = particles.take(torch.tensor([[seed % 3]]))
    assert process.finished(particles.x).all() and (particles.x[..., :L] < 5).all()


def test_equal_candidates_only_at_temperature_0():
    for temperature, expected in ((0.0, 1), (1.0, 20)):
        model = uniform(commits=Commits(temperature=temperature))
        assert model.process.stochastic(0) is (temperature > 0)
        x = model.start(Streams(0, [0])).propose(20).x[0]
        assert (len(x.unique(dim=0)) == 1) is (expected == 1)
    with pytest.raises(ValueError, match=r"deterministic step makes equal candidates; at temperature 0 .* give a temp"):
        SVDD(4)(uniform(commits=Commits(temperature=0.0)), PosteriorMean(len), Streams(0, [0]))


@pytest.mark.parametrize(("k", "p"), [(2, 1.0), (0, 0.6), (3, 0.5)])
def test_only_the_likeliest_tokens_are_drawn(k, p):
    probabilities = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
    process = Blocks(1, 5, 1, 1, Commits(top_k=k, top_p=p))
    model = Diffusion(lambda x, t: probabilities.log().expand(len(x), 1, 5), process, timed=False)
    x = Unguided()(model, None, Streams(0, range(4000))).x[:, 0, 0]
    kept = probabilities.clone()
    kept[2:] = 0  # the first two: 2 of them, or the fewest with 0.6, or of the first 3 with 0.5
    torch.testing.assert_close(torch.bincount(x, minlength=5) / 4000, kept / kept.sum(), atol=0.03, rtol=0)


def test_parts_of_a_large_vocabulary_change_nothing(monkeypatch):
    draw = lambda: SVDD(3)(uniform(), PosteriorMean(lambda x: x.double().sum(1)), Streams(1, range(5))).x  # noqa: E731
    whole = draw()
    monkeypatch.setattr(blocks, "CHUNK", 7)
    assert torch.equal(draw(), whole)


def test_outputs_are_those_of_a_block_and_texts_that_wait_cost_nothing_more():
    chain = BlockChain(Commits(threshold=0.0))  # a block is filled in its first step
    model = chain.model()
    particles = model.start(Streams(0, [0]))
    shapes = []
    while not particles.done:
        shapes.append(tuple(particles.outputs.y.shape[1:]))
        particles = particles.propose(4).take(torch.tensor([[1]]))
    assert set(shapes) == {(2, 2)}
    assert model.denoiser.rows == 3 and model.steps == 4  # two blocks, and the finished text once
    model = chain.model()
    SVDD(4)(model, PosteriorMean(lambda x: x[:, 0].double()), Streams(0, [0]))
    assert model.denoiser.rows <= 1 + 4 + 4  # the start, candidates after a block, and finished ones: once each


@pytest.mark.parametrize("name", RULES)
def test_noise_masks_the_blocks_that_come_later(name):
    process = Blocks(10, 5, 4, 3, RULES[name])
    clean = torch.cat([torch.full((200, 1, process.size), 2), torch.tensor([1, 4, 0, 0]).expand(200, 1, 4)], -1)
    for k in range(process.steps + 1):
        x = process.noise(clean, k, Streams(k, range(200)))
        number, j = divmod(k, process.each)
        at = torch.arange(process.size) + 1
        masked = x[..., : process.size] == process.mask
        if number >= 3:
            assert torch.equal(x, clean)
            continue
        assert masked[..., at // 4 > number].all() and not masked[..., at // 4 < number].any()
        left = (3 if number == 0 else 4) - sum([2, 1, 1][: min(j, 3)])
        assert (masked[..., at // 4 == number].sum(-1) == max(left, 0)).all()
        block = number + (left <= 0 and not process.commits.after)
        assert (x[..., process.size + 1] == block).all()
        if 0 < left < 4:
            assert masked[..., at // 4 == number].float().mean((0, 1)).std() < 0.1  # any of them
    ended = clean.clone()
    ended[..., 0] = process.commits.end if process.commits.end is not None else 2
    x = process.noise(ended, process.each, Streams(0, range(200)))
    assert process.finished(x).all() == (process.commits.end is not None)


def test_a_noised_text_goes_on_to_its_end():
    model = uniform(commits=Commits(threshold=0.5, editing=0.4, after=2))
    clean = Unguided()(model, None, Streams(0, range(50))).x
    for k in range(0, model.steps, 2):
        particles = model.restart(clean, k, Streams(1, range(50)))
        while not particles.done:
            particles = particles.propose()
        assert model.process.finished(particles.x).all() and (particles.x[..., :10] < 5).all()


def test_a_text_that_ended_is_noised_and_filled_without_holes():
    table = torch.tensor([0.3, 0.3, 0.2, 0.2]).log()
    process = Blocks(8, 4, 4, 4, Commits(threshold=2.0, end=1))
    model = Diffusion(lambda x, t: table.expand(len(x), 4, 4), process, timed=False)
    clean = Unguided()(model, None, Streams(0, range(300))).x
    assert (clean[..., :8] == process.mask).any()
    for k in range(process.steps):
        particles = model.restart(clean, k, Streams(1, range(300)))
        while not particles.done:
            particles = particles.propose()
        x = particles.x[:, 0, :8]
        before = (x == 1).cumsum(1) == 0  # the first end
        assert (x[before] != process.mask).all()


def test_draws_of_the_look_ahead_follow_the_network():
    chain = BlockChain(Commits(temperature=0.0), prompt=1)
    particles = chain.model().start(Streams(0, range(4000)))
    x = particles.draw(1)[:, 0]
    p = chain.table[chain.index(particles.x[0, 0])].exp()
    assert torch.bincount(x[:, 0], minlength=3)[:2].div(4000).sub(p[0]).abs().max() < 0.03
    assert (x[:, 1:3] == 2).all()  # the first block has room for one token


def test_steps_are_shared_by_the_blocks():
    process = Blocks(8, 5, 4, 4, Commits(editing=0.5, after=2))
    assert process.steps == 3 * (4 + 2)
    assert process.with_steps(11).refinements == 1 and process.with_steps(11).steps == 11
    for wrong in (lambda: process.with_steps(8), lambda: replace(process, steps=17)):
        with pytest.raises(ValueError, match="3 blocks"):
            wrong()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda p: Blocks(0, 5, 4), "length is 0"),
        (lambda p: Blocks(8, 5, 4, 0), "refinements is 0"),
        (lambda p: Blocks(8, 5, 4, commits=Commits(temperature=-1.0)), "temperature is -1.0"),
        (lambda p: Blocks(8, 5, 4, commits=Commits(top_p=0.0)), "top_p 0.0"),
        (lambda p: p.strided(0, 2), "cannot be made longer"),
        (lambda p: p.pinned(torch.zeros(8)), "give a prompt"),
        (lambda p: p.remask(torch.zeros(1), torch.zeros(1)), "block after block"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(Blocks(8, 5, 4))


def test_a_network_that_rules_out_all_tokens_is_refused():
    for bad in (math.nan, -math.inf):
        model = Diffusion(lambda x, t, bad=bad: torch.full((len(x), 4, 5), bad), Blocks(8, 5, 4), timed=False)
        with pytest.raises(ValueError, match="nan, or ruled every token out"):
            model.start(Streams(0, [0])).propose()


def test_what_needs_all_tokens_at_once_is_refused():
    model, value, streams = uniform(), PosteriorMean(lambda x: x.double().sum(1)), Streams(0, [0])
    with pytest.raises(ValueError, match="a block of its tokens at a time"):
        Tilt(N=2)(model, value, streams)
    with pytest.raises(ValueError, match="leave out span and region"):
        Refine(rounds=1, span=2, level=0.5)(model, value, streams)
    with pytest.raises(ValueError, match="cannot be trained of text in blocks"):
        check_kind(model.process)
    x = Refine(rounds=3, level=0.5)(model, value, streams).x
    assert model.process.finished(x).all()
