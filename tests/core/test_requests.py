"""Requests, apart from the model: conditions of two sides, requests that particles carry, look-aheads."""

import ast
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.core.batching import Evaluator
from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.editing import Editing
from guided.core.gaussian import Gaussian
from guided.core.guidance import Conditions, Guidance
from guided.core.masked import Masked
from guided.core.prompting import Prompting
from guided.core.random import Streams
from guided.errors import GuidedError
from tests.toys.chains import Counting, gaussian
from tests.toys.pictures import pictures
from tests.toys.small import tokens, vectors

ROOT = Path(__file__).parents[2]
NUMBERS = {"a": 1.0, "b": -2.0, "c": 7.0, "": 0.25}


def prompts_to(*names):
    """Prompts as one condition under each of these names: the number of the prompt, times 1, 10, 100, ..."""
    return lambda prompts: {
        name: 10.0**i * torch.tensor([[NUMBERS[p]] for p in prompts]) for i, name in enumerate(names)
    }


def echo(*names, **options):
    """A continuous model whose network returns the sum of its conditions."""
    network = Counting(lambda x, t, **cond: 0 * x + sum(cond[name] for name in names))
    return Diffusion(network, gaussian().process, prompting=Prompting(prompts_to(*names), **options))


def test_a_model_has_ten_fields_at_most():
    assert len(fields(Diffusion)) <= 10


def test_no_file_asks_whether_a_process_is_discrete():
    """A process has what others need: the shape of a row, its tokens, equal rows, steps with noise."""
    for folder in ("guided", "samplers", "rewards", "examples", "benchmarks", "training", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            asked = [n for n in ast.walk(ast.parse(path.read_text())) if getattr(n, "attr", None) == "discrete"]
            assert not asked, f"{path}:{asked[0].lineno}"


@pytest.mark.parametrize("names", [("c",), ("c", "negative_c"), ("negative", "positive", "cond", "negative_negative")])
@pytest.mark.parametrize("own", [True, False])
@given(w=st.floats(-3, 8), pair=st.permutations("abc"))
def test_the_sides_are_two_whatever_the_conditions_are_called(names, own, w, pair):
    """y_- + w (y_+ - y_-): each side has its own prompt, with one network or two; no name belongs to a side."""
    model = echo(*names, negative=(lambda x, t, **cond: 0 * x + 5 * sum(cond.values())) if own else None)
    posed = model.prompted([pair[0], pair[1]], w, [pair[1], pair[2]])
    y = posed.evaluate(torch.zeros(2, 3, 2), 0).y.view(2, 3, 2)
    scale = sum(10.0**i for i in range(len(names)))
    for b in (0, 1):
        plus, minus = NUMBERS[pair[b]] * scale, (5 if own else 1) * NUMBERS[pair[b + 1]] * scale
        torch.testing.assert_close(y[b], torch.full((3, 2), minus + w * (plus - minus)), rtol=1e-4, atol=1e-3)


def test_sides_of_different_names_are_refused():
    with pytest.raises(GuidedError, match=r"negative side are d; they must be those of the positive, c"):
        Conditions({"c": torch.zeros(1)}, {"d": torch.zeros(1)})
    with pytest.raises(GuidedError, match=r"are none; they must be those of the positive, c"):
        Conditions({"c": torch.zeros(1)}, {})


def test_both_sides_are_selected_together():
    model = echo("c").prompted(["a", "b", "c"], 3.0, ["b", "c", "a"]).select([2, 0])
    conditions = model.requests.conditions
    assert conditions.positive["c"].tolist() == [[7.0], [1.0]] and conditions.negative["c"].tolist() == [[1.0], [-2.0]]
    assert model.prompts == ["c", "a"]
    one = echo("c").prompted(["a", "b"]).select([1]).requests.conditions
    assert one.positive["c"].tolist() == [[-2.0]] and one.negative is None


def test_the_denoiser_stays_the_pretrained_one():
    """Prompts, guidance and a negative denoiser are not part of it, in whatever order they come."""
    model, other = echo("c"), lambda x, t, **cond: x + 1
    one, two = model.with_negative(other).prompted(["a"], 2.0), model.prompted(["a"], 2.0).with_negative(other)
    x, t = torch.zeros(1, 2), torch.ones(1)
    for posed in (one, two):
        assert posed.denoiser is model.denoiser and posed.requests.guidance == Guidance(2.0)
        assert torch.equal(posed.predict(x, t, posed.requests.conditions), torch.ones(1, 2) + 2.0 * (1.0 - 1.0))


def test_a_weight_or_rescale_that_cannot_be_had_is_refused_when_it_is_given():
    for options, message in (
        ({"guidance": float("inf")}, "guidance is inf; it must be a finite number"),
        ({"guidance": 2.0, "rescale": 1.5}, r"rescale is 1.5; it must be in \[0, 1\]"),
        ({"guidance": 2.0, "rescale": 0.5}, "no raw prediction to rescale"),
    ):
        with pytest.raises(GuidedError, match=message):
            echo("c").prompted(["a"], **options)


@pytest.mark.parametrize("model", [vectors().prompted(["a", "b"], 2.0), tokens()])
def test_particles_carry_their_requests(model):
    streams = Streams(0, [0, 1])
    for particles in (model.start(streams, 2), model.restart(torch.zeros_like(model.start(streams, 2).x), 1, streams)):
        particles.outputs  # noqa: B018  (asked for, so that something travels with them)
        moved = particles.propose(3)
        kept = moved.take(torch.tensor([[4], [0]]))
        for other in (particles, moved, kept, kept.propose()):
            assert other.requests is model.requests
    assert model.monitor.network_rows > 0


def test_a_run_counts_for_itself():
    model = vectors()
    one, two = (model.with_requests(monitor=type(model.monitor)()) for _ in range(2))
    one.start(Streams(0, [0])).propose()
    assert (one.monitor.network_rows, two.monitor.network_rows, model.monitor.network_rows) == (1, 0, 0)


def test_requests_that_start_from_a_sample_begin_at_their_step():
    editing = Editing(torch.zeros(1, 2), 0.5)
    model = vectors().with_requests(editing=editing)
    assert (model.requests.first_step(4), vectors().requests.first_step(4)) == (2, 0)
    assert model.start(Streams(0, [0])).k == 2
    with pytest.raises(GuidedError, match="leaves none to take"):
        replace(model.requests, editing=replace(editing, strength=0.1)).first_step(4)


def words(x):
    return ["".join("ACGT"[i] for i in row) for row in x.tolist()]


def dna(preview=None, K=4):
    def denoiser(x, t):
        hot = torch.nn.functional.one_hot(x, 5).float()
        return (hot.cumsum(1)[..., :4] + hot.flip(1).cumsum(1)[..., 1:]).log_softmax(-1)

    return Diffusion(denoiser, Masked(5, 4, K), Codec(words, preview), timed=False)


@pytest.mark.parametrize("by_request", [False, True])
def test_look_aheads_are_those_of_their_particles(by_request):
    """The same as decoding particle by particle; a sample is there once, or once for each request with its prompt."""
    model = dna(K=8).with_requests(prompts=["one", "two", "three"])
    particles = model.start(Streams(0, range(3)), 4)
    while True:
        ahead = particles.look_ahead(by_request=by_request)
        samples, index = ahead.samples(), ahead.index
        assert index.shape == (3, 4, 1) and sorted(index.unique().tolist()) == list(range(len(ahead)))
        for b in range(3):
            for n in range(4):
                x = particles.x[b, n][None]
                clean = x if particles.done else torch.where(x == 4, model.denoiser(x, None).argmax(-1), x)
                assert samples[index[b, n, 0]] == words(clean)[0]
                if by_request:
                    assert ahead.prompts[index[b, n, 0]] == model.prompts[b]
        assert by_request == (ahead.prompts is not None)
        pairs = list(zip(samples, ahead.prompts, strict=True)) if by_request else samples
        assert len(set(pairs)) == len(pairs)
        if particles.done:
            break
        particles = particles.propose()


def test_draws_of_the_look_ahead_belong_to_their_particle():
    particles = dna().start(Streams(0, range(2)), 3).propose().propose()
    ahead = particles.look_ahead(6)
    assert ahead.index.shape == (2, 3, 6)
    x, rows = particles.x[:, :, None].expand(2, 3, 6, 5), ahead.rows[ahead.index]
    assert torch.equal(rows[x != 4], x[x != 4]) and (rows < 4).all()
    assert dna().restart(x[:, :, 0].clamp(max=3), 4, Streams(0, range(2))).look_ahead(6).index.shape == (2, 3, 1)


def test_look_aheads_have_the_preview_and_samples_the_decoder():
    model = dna(preview=lambda x: ["preview"] * len(x))
    particles = model.start(Streams(0, [0]))
    assert particles.look_ahead().samples() == ["preview"]
    assert particles.look_ahead(preview=False).samples() != ["preview"]
    while not particles.done:
        particles = particles.propose()
    assert particles.look_ahead().samples() == words(particles.x[0])


def test_parts_of_a_look_ahead_are_decoded_alone():
    seen = []
    codec = Codec(lambda x: seen.append(len(x)) or x)
    ahead = replace(gaussian(), codec=codec).start(Streams(0, [0]), 5).look_ahead()
    assert torch.equal(torch.cat([ahead.samples(slice(0, 2)), ahead.samples(slice(2, 5))]), ahead.rows)
    assert seen == [2, 3] and ahead.monitor.seconds["decode"] > 0
    short = replace(gaussian(), codec=Codec(lambda x: x[:1])).start(Streams(0, [0]), 5).look_ahead()
    with pytest.raises(GuidedError, match="made 1 samples of 5 rows"):
        short.samples()


@pytest.mark.parametrize("process", [Masked(3, 2), Gaussian((3,), [0.1, 1.0], [0.9, 0.0], [1.0, 0.0])])
def test_what_a_process_says_of_itself(process):
    """Rows of its shape, found again where equal ones are left out; a row that changed is seen."""
    x = process.prior(40, Streams(0, [0]))[0]
    if process.tokens is not None:
        x = torch.randint(0, process.tokens, x.shape, generator=torch.Generator().manual_seed(0))
    group = torch.arange(40) % 2
    assert x.shape[1:] == process.event and process.fixed is None
    for each in (None, group):
        first, inverse = process.distinct(x, each)
        assert torch.equal(x[first][inverse], x) and (each is None or torch.equal(group[first][inverse], group))
        assert process.tokens is None or len(first) <= (27 if each is None else 2 * 27)
    moved = x.clone()
    moved[3] = (moved[3] + 1) % 2
    assert process.changed(moved, x)[3]
    assert process.tokens is None or process.changed(moved, x).sum() == 1


def test_only_tokens_can_be_pinned_and_only_other_samples_edited():
    with pytest.raises(GuidedError, match="model is a continuous model; only masked models have tokens to pin"):
        gaussian().pinned(torch.zeros(2, dtype=torch.long))
    with pytest.raises(GuidedError, match="no tokens to pin"):
        gaussian().process.pinned(torch.zeros(2, dtype=torch.long))
    for model in (dna(), replace(dna(), codec=Codec(words, encode=lambda word: torch.zeros(5))), vectors()):
        with pytest.raises(GuidedError, match="cannot start from a sample: only models of images or videos can"):
            model.edited("ACGTA")
    with pytest.raises(GuidedError, match="model has no masks"):
        replace(pictures(), codec=replace(pictures().codec, region=None)).edited(None, mask=object())


def test_what_a_model_cannot_do_is_said():
    with pytest.raises(GuidedError, match="model does not say which network it has: it cannot be trained"):
        gaussian().trainable()
    assert vectors().trainable() is not None
    with pytest.raises(GuidedError, match="model cannot encode samples"):
        gaussian().encode(None)
    with pytest.raises(GuidedError, match="model takes no prompt and no guidance: it is unconditional"):
        gaussian().prompted(["a"])
    with pytest.raises(GuidedError, match="model takes no prompt: it is unconditional"):
        gaussian().with_negative(lambda x, t: x).prompted(["a"])


def test_the_device_is_that_of_the_evaluator():
    model = replace(gaussian(), evaluator=Evaluator(3, torch.device("meta")))
    assert model.device == torch.device("meta") and model.evaluator.size == 3
