"""LLaDA 2's pipeline as a model: its tokens and its laws are the pipeline's own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import guided
from guided.adapters.diffusers import wrap
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.samplers import SVDD, Unguided
from tests.adapters.diffusers.text.table import HEAD, PAGE, gemma, rows
from tests.adapters.diffusers.text.tiny import END, MASK, PROMPTS, network, pipeline, tokenizer

SIZES = {"gen_length": 10, "block_length": 4}
RULES: dict[str, dict[str, Any]] = {
    "its own": {},
    "shares": {"threshold": 2.0, "editing_threshold": None, "num_inference_steps": 3},
    "sure": {"threshold": 0.2, "editing_threshold": None, "num_inference_steps": 2},
    "edits": {"threshold": 0.3, "editing_threshold": 0.2, "max_post_steps": 3},
    "to the end": {"eos_early_stop": False, "block_length": 5, "editing_threshold": 0.3},
    "one block": {"block_length": 16, "num_inference_steps": 5, "use_chat_template": False},
}
every = pytest.mark.parametrize("name", RULES)
WARM = {"temperature": 1.0, **SIZES}


def words(samples: Any) -> list[float]:
    return [float(len(set(sample.split()))) for sample in samples]


def tokens(model: Any, x: Tensor) -> list[list[int]]:
    """Rows in the pipeline's numbers, as long as its own."""
    x = x[..., : model.process.length]
    return torch.where(x == model.process.mask, MASK, x).tolist()


@every
@pytest.mark.parametrize("seed", [0, 1])
def test_tokens_and_texts_are_the_pipelines_own(name: str, seed: int) -> None:
    given, args = pipeline(seed, 1.5), {**SIZES, **RULES[name]}
    model = wrap(given, pipe_args=args)
    x = Unguided()(model.prompted(PROMPTS), None, Streams(0, range(3))).x[:, 0]  # type: ignore[arg-type]
    for prompt, row, text in zip(PROMPTS, tokens(model, x), model.decode(x), strict=True):
        theirs = given(prompt=prompt, **args)
        assert row == theirs.sequences[0].tolist()
        assert text == theirs.texts[0]


def test_a_full_block_is_edited_once_by_the_schedulers_threshold() -> None:
    given, args = pipeline(0, 1.5, editing_threshold=0.1), {**SIZES, "editing_threshold": None, "threshold": 0.2}
    model = wrap(given, pipe_args=args)
    x = Unguided()(model.prompted(PROMPTS), None, Streams(0, range(3))).x[:, 0]  # type: ignore[arg-type]
    theirs = [given(prompt=prompt, **args).sequences[0].tolist() for prompt in PROMPTS]
    plain = [given(prompt=prompt, **args | {"editing_threshold": 0.0}).sequences[0].tolist() for prompt in PROMPTS]
    assert tokens(model, x) == theirs != plain


class Given:
    """Uniform numbers that were chosen."""

    def __init__(self, u: Tensor) -> None:
        self.u = u

    def uniform(self, *shape: int) -> Tensor:
        return self.u.float().view(1, *shape)


def recorded(given: Any, monkeypatch: pytest.MonkeyPatch, **args: Any) -> list[dict[str, Tensor]]:
    """For each step of a pipeline: the law that tokens were drawn from, those tokens, the text after it, and whether
    the block had masks.
    """
    laws: list[Tensor] = []
    steps: list[dict[str, Tensor]] = []
    own = torch.multinomial

    def multinomial(p: Tensor, *rest: Any, **options: Any) -> Tensor:
        laws.append(p)
        return own(p, *rest, **options)

    def step(_: Any, number: int, index: int, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        now = {"law": laws[-1], "tokens": seen["sampled_tokens"][0], "after": seen["block_x"][0].clone()}
        steps.append({**now, "masked": seen["active_block"].any()})
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(torch, "multinomial", multinomial)
        generator, names = torch.Generator().manual_seed(3), ["sampled_tokens", "block_x", "active_block"]
        given(generator=generator, callback_on_step_end=step, callback_on_step_end_tensor_inputs=names, **args)
    return steps


@pytest.mark.parametrize(
    "rule",
    [
        {"temperature": 1.0, "editing_threshold": None},
        {"temperature": 0.6, "top_k": 6, "threshold": 0.3, "editing_threshold": 0.3, "max_post_steps": 2},
        {"temperature": 1.3, "top_p": 0.8, "threshold": 2.0, "editing_threshold": None, "num_inference_steps": 2},
    ],
)
@pytest.mark.parametrize("prompt", PROMPTS[:2])
def test_each_step_is_drawn_from_the_pipelines_law(
    rule: dict[str, Any], prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its edges are the same to 1e-5, and with the tokens that the pipeline drew, so is what becomes of them."""
    given, args = pipeline(1, 1.5), {**SIZES, **rule}
    model = wrap(given, pipe_args=args).prompted([prompt])
    steps = recorded(given, monkeypatch, prompt=prompt, **args)
    particles = model.start(Streams(0, [0]))
    before = len(model.denoiser.table.tokens[1])
    for step in steps:
        if not step["masked"] and rule["editing_threshold"] is None:
            continue  # the pipeline looks once more at a block that is full, and changes nothing
        edges = torch.cat([torch.zeros(4, 1), step["law"].double().cumsum(-1)], -1)
        check_edges(particles, edges)
        low, high = (edges.gather(1, step["tokens"][:, None] + more)[:, 0] for more in (0, 1))
        y = particles.outputs.y[particles.outputs.index]
        moved = model.process.propose(particles.x, y, particles.k, 1, Given((low + high) / 2))
        own = tokens(model, moved[0, 0])
        theirs = step["after"][before:].tolist()
        assert own[: len(theirs)] == theirs[: len(own)]
        particles = Particles(model, moved, particles.k + 1, particles.streams)
    assert model.process.finished(particles.x).all()


def check_edges(particles: Any, edges: Tensor) -> None:
    """Numbers 1e-5 inside of a token's part of [0, 1) name that token, at every masked position of the block."""
    process, x = particles.model.process, particles.x
    start = int(process.spans(x)[0])
    for v in range(edges.shape[-1] - 1):
        wide = (edges[:, v + 1] - edges[:, v]) > 4e-5
        u = torch.stack([edges[:, v] + 1e-5, edges[:, v + 1] - 1e-5])
        clean = process.draw(x, particles.outputs.y[particles.outputs.index], 2, Given(u))[0]
        for i in range(4):
            place = start + i
            if place < int(process.spans(x)[1]) and x[0, 0, place] == process.mask and wide[i]:
                assert clean[:, place].tolist() == [v, v]


def test_a_sample_does_not_depend_on_the_others_nor_on_the_micro_batch() -> None:
    given = pipeline(1)
    prompts = [PROMPTS[i % 3] for i in range(8)]

    def draw(n: int, **options: Any) -> Any:
        model = wrap(given, pipe_args=WARM, **options)
        return guided.sample(model, words, SVDD(M=3, alpha=0.5), n=n, prompt=prompts[:n])

    eight, parts = draw(8), draw(8, micro_batch=3)
    ones = guided.sample(wrap(given, pipe_args=WARM), words, SVDD(M=3, alpha=0.5), n=8, prompt=prompts, batch_size=1)
    assert eight.samples == parts.samples == ones.samples
    assert draw(1).samples == eight.samples[:1]
    assert len(set(eight.samples)) > 4


def test_guidance_and_candidates_raise_the_reward() -> None:
    given = pipeline(1)
    runs = [guided.sample(wrap(given, pipe_args=WARM), words, SVDD(M=M), n=16, prompt="the cat") for M in (1, 6)]
    assert runs[1].rewards.mean() > runs[0].rewards.mean() + 1


def test_outputs_are_of_the_block_and_a_finished_text_is_not_asked() -> None:
    given = pipeline(0)
    asked: list[int] = []
    hook = given.model.register_forward_pre_hook(lambda module, args: asked.append(len(args[0])))
    model = wrap(given, pipe_args={**SIZES, "threshold": 0.0, "editing_threshold": None})
    asked.clear()
    run = guided.sample(model, None, "unguided", n=1, prompt="the cat")
    hook.remove()
    assert model.process.output == (4, 18) and model.steps == 4 * 4
    assert sum(asked) == run.stats.network_rows <= 4  # a block each, and the finished text once
    assert wrap(given, pipe_args={"gen_length": 2048}).process.output == (32, 18)


def test_the_rest_of_the_text_is_predicted_by_a_second_row() -> None:
    given = pipeline(1)
    model = wrap(given, lookahead="all", pipe_args=WARM).prompted(["the cat"])
    plain = wrap(given, pipe_args=WARM).prompted(["the cat"])
    particles, other = (m.start(Streams(0, [0])) for m in (model, plain))
    assert model.cost == 2
    wanted = other.outputs.y[0]
    assert (particles.outputs.y[0, :4] - wanted).abs()[:, 3:].max() < 1e-5
    clean = particles.look_ahead()
    assert (clean.rows[0, :10] != model.process.mask).all()
    assert len(clean.samples()[0].split()) > len(other.look_ahead().samples()[0].split())
    ours, theirs = (guided.sample(m, words, SVDD(M=2, alpha=1e9), n=2, prompt="the cat") for m in (model, plain))
    assert ours.samples == theirs.samples  # the chain is the same: only look-aheads differ


def test_guidance_mixes_the_logarithms_of_two_prompts() -> None:
    model = wrap(pipeline(1), pipe_args=WARM)
    plain = [model.prompted([prompt]) for prompt in ("the cat", "a big dog sees the house")]
    both = model.prompted(["the cat"], 2.5, ["a big dog sees the house"])
    x = plain[0].start(Streams(0, [0])).propose().x
    yes, no = (other.evaluate(x, 1).y.clamp(min=-1e4) for other in plain)
    wanted = (no + 2.5 * (yes - no)).softmax(-1)
    assert (both.evaluate(x, 1).y.softmax(-1) - wanted).abs().max() < 1e-5
    assert both.cost == 2
    negative = model.with_negative(model.network.around(network(2))).prompted(["the cat"], 2.5)
    other = wrap(pipeline(2), pipe_args=WARM).prompted([""]).evaluate(x, 1).y.clamp(min=-1e4)
    apart = negative.evaluate(x, 1).y.softmax(-1) - (other + 2.5 * (yes - other)).softmax(-1)
    assert apart.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("sampler", "refused"),
    [
        *((name, "") for name in ("smc", "beam", "particle-gibbs", "rollover", "noise-search", "refine")),
        ("block-best-of-n", ""),
        ("elite", "cannot be masked again"),
        ("tilt", "a block of its tokens at a time"),
    ],
)
def test_samplers_draw_text_or_say_why_not(sampler: str, refused: str) -> None:
    sizes = {"gen_length": 6, "block_length": 3, "num_inference_steps": 2, "editing_threshold": None}
    model = wrap(pipeline(1), pipe_args={**sizes, "temperature": 1.0})
    if refused:
        with pytest.raises(GuidedError, match=refused):
            guided.sample(model, words, sampler, prompt="the cat")
    else:
        run = guided.sample(model, words, sampler, prompt="the cat")
        assert run.rewards[0] == words(run.samples)[0]


def test_temperature_0_has_one_candidate() -> None:
    model = wrap(pipeline(), pipe_args=SIZES)
    with pytest.raises(GuidedError, match=r"equal candidates; at temperature 0 .* pipe_args=\{'temperature': 1.0\}"):
        guided.sample(model, words, SVDD(M=2), prompt="the cat")
    assert len(guided.sample(model, words, SVDD(M=1), prompt="the cat").samples) == 1


def test_prompts_go_through_the_template_and_the_identity_knows() -> None:
    plain = wrap(pipeline(), pipe_args={**SIZES, "use_chat_template": False})
    model = wrap(pipeline(), pipe_args=SIZES)
    lengths = [len(m.denoiser.table.tokens[m.prompting.encode(["the cat"])["prompt"][0]]) for m in (plain, model)]
    assert lengths == [2, 4]
    assert plain.identity != model.identity == wrap(pipeline(), pipe_args=SIZES).identity


def test_without_a_tokenizer_texts_are_numbers() -> None:
    given = pipeline()
    given.tokenizer = None
    model = wrap(given, pipe_args={**SIZES, "mask_token_id": MASK, "eos_token_id": END})
    [text] = model.decode(torch.tensor([[7, 8, END, 9, *[17] * 13]]))
    assert text == "7 8 2"
    assert len(guided.sample(model, None, "unguided", n=2).samples) == 2
    with pytest.raises(GuidedError, match="cannot read the prompt"):
        model.prompted(["the cat"])


def test_a_folder_on_the_command_line(guided: Any, tmp_path: Path) -> None:
    pipeline(1).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model" / "tokenizer")  # which diffusers leaves out, by its class's name
    arguments = ["--pipe-arg", "temperature=1", "--pipe-arg", "gen_length=8", "--pipe-arg", "block_length=4"]
    command = ["sample", tmp_path / "model", "-r", "length", "-n", 6, "-M", 3, "--prompt", "the cat", *arguments]
    code, _, err = guided(*command, "--out", tmp_path / "run")
    assert code in (0, None), err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["process"]["temperature"] == 1 and record["config"]["process"]["block"] == 4
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Best texts" in page and "the cat" in page
    assert len((tmp_path / "run" / "samples.csv").read_text().splitlines()) == 7
    code, _, err = guided(*command[:-6])
    assert code == 2 and "at temperature 0 tokens are the likeliest" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipe_args": {"prompt": "a"}}, "given prompt by pipe_args; give prompt"),
        ({"pipe_args": {"generator": 1}}, "give seed"),
        ({"pipe_args": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"pipe_args": {"gen_length": 0}}, "gen_length is 0"),
        ({"pipe_args": {"block_length": "x"}}, "block_length is 'x'"),
        ({"pipe_args": {"sampling_method": "beam"}}, "sampling_method must be one of"),
        ({"pipe_args": {"temperature": -1.0}}, "temperature is -1.0"),
        ({"pipe_args": {"temperature": 1, "top_p": 0.0}}, "top_p is 0.0"),
        ({"pipe_args": {"top_k": "many"}}, "top_k is 'many'; it must be a whole number"),
        ({"pipe_args": {"top_k": 2.5}}, "top_k is 2.5; it must be a whole number"),
        ({"pipe_args": {"threshold": "high"}}, "threshold is 'high'; it must be a finite number"),
        ({"pipe_args": {"editing_threshold": "high"}}, "editing_threshold is 'high'; it must be a finite number"),
        ({"pipe_args": {"use_chat_template": "no"}}, "use_chat_template is 'no'; it must be true or false"),
        ({"pipe_args": {"gen_length": 4, "minimal_topk": 5}}, "at most gen_length"),
        ({"pipe_args": {"mask_token_id": 99}}, "for mask_token_id 99"),
        ({"pipe_args": {"num_inference_steps": 3}, "steps": 100}, "give one"),
        ({"pipe_args": 3}, "must be a mapping"),
        ({"lookahead": "tiny"}, "one of block, all"),
        ({"loop": True}, "a loop of tokens"),
        ({"eta": 0.5}, "as text has no option 'eta'"),
        ({"steps": 3, "pipe_args": {"gen_length": 64}}, "3 blocks take at least 54"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GuidedError, match=message):
        wrap(pipeline(), **options)


def test_other_noise_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(GuidedError, match="noise is uniform, not masked"):
        guided.load(gemma())
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DiffusionGemmaPipeline"}))
    with pytest.raises(GuidedError, match="noise is uniform, not masked"):
        guided.load(tmp_path)
    from diffusers import DiscreteDDIMScheduler

    given = pipeline()
    given.scheduler = DiscreteDDIMScheduler()
    with pytest.raises(GuidedError, match="take BlockRefinementScheduler"):
        wrap(given)


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    given, bare = pipeline(), tokenizer()
    bare.mask_token = None
    other = type(given)(given.model, given.scheduler, bare)
    with pytest.raises(GuidedError, match="no mask token"):
        wrap(other)


def test_the_page_says_what_was_tried() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert HEAD in lines and set(rows()) <= set(lines)
