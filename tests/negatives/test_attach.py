"""A negative checkpoint on the negative side of guidance."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import guided
from guided.adapters.diffusers import wrap
from guided.core.guidance import Guided
from guided.fitting.negative.job import save
from guided.negatives.attach import attach
from guided.negatives.fingerprint import fingerprint
from guided.negatives.lora import add_lora, merged_weights
from guided.negatives.merge import merge
from guided.negatives.weights import FULL
from guided.samplers import SVDD
from tests.adapters.diffusers.pipelines.families import build
from tests.negatives.test_lora import scattered
from tests.toys.small import LETTERS, Vector, tokens, vectors

KINDS = ("lora", "full")


def folder_of(model, path, kind, seed=5, card=True):
    """A negative checkpoint of a model, as a training leaves it, and its network."""
    net = model.network.bare
    path.mkdir()
    if kind == "lora":
        student = scattered(add_lora(net, 2), seed)
    else:
        student = type(net)(seed) if isinstance(net, Vector) else tokens(seed).network.bare
    student = student.half().float() if kind == "full" else student  # which is what is saved
    with torch.no_grad():
        for p in student.parameters():
            if p.requires_grad:
                p.copy_(p.half())
    save(student, path, model.network.part, kind == "lora")
    if card:
        config = {"kind": "negative", "base": {"name": model.name, "network": fingerprint(net)}, "metrics": {}}
        (path / "config.json").write_text(json.dumps(config))
    return path, student


def drawn(model, **options):
    """Samples of a model, with no reward."""
    options = {"n": 6, "sampler": "unguided", "seed": 3, **options}
    return guided.sample(model, **options)


def same(one, other, **tolerance):
    torch.testing.assert_close(torch.stack(list(one.samples)), torch.stack(list(other.samples)), **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_0_and_1_are_the_two_models_themselves(kind, tmp_path):
    """Exactly: the negative model has no prompt, the positive one has."""
    model = vectors()
    place, student = folder_of(model, tmp_path / "a", kind)
    both = attach(model, place)
    same(drawn(both, prompt="a", guidance=1.0), drawn(model, prompt="a", guidance=1.0), rtol=0, atol=0)
    other = replace(model, denoiser=model.network.around(student))
    same(drawn(both, prompt="a", guidance=0.0), drawn(other, guidance=1.0), rtol=0, atol=1e-6)
    same(drawn(both, prompt="a", guidance=0.0), drawn(both, prompt="b", guidance=0.0), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_0_is_plain_classifier_free_guidance(kind, tmp_path):
    model = vectors()
    place, _ = folder_of(model, tmp_path / "a", kind)
    plain = drawn(model, prompt="a", guidance=3.0)
    same(drawn(attach(model, place, alpha=0.0), prompt="a", guidance=3.0), plain, rtol=1e-5, atol=1e-5)
    there = drawn(attach(model, place), prompt="a", guidance=3.0)
    assert (torch.stack(list(there.samples)) - torch.stack(list(plain.samples))).abs().max() > 0.1


@pytest.mark.parametrize("alpha", [1.0, 0.5, -1.0])
@pytest.mark.parametrize("beta", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_negative_network_is_that_of_the_merged_weights(kind, alpha, beta, tmp_path):
    """A positive model that was fine-tuned from the base: with its offset, or without."""
    base, positive = vectors(0), vectors(1)
    place, student = folder_of(base, tmp_path / "a", kind)
    npo = merged_weights(student) if kind == "lora" else student.state_dict()
    weights = [model.network.bare.state_dict() for model in (base, positive)]
    net = Vector()
    net.load_state_dict(merge(weights[0], weights[1], npo, alpha, beta))
    x, t, c = torch.randn(4, 2), torch.rand(4), torch.ones(4, 1)
    negative = attach(positive, place, alpha=alpha, beta=beta, base=base).prompting.negative
    torch.testing.assert_close(negative(x, t, c=c), net(x, t, c), rtol=1e-5, atol=1e-5)
    if not (beta or alpha != 1.0):
        own = attach(base, place, alpha=alpha, beta=0.5).prompting.negative  # there is no offset to leave out
        net.load_state_dict(npo)
        torch.testing.assert_close(own(x, t, c=c), net(x, t, c), rtol=1e-5, atol=1e-5)


def test_guided_predictions_are_those_of_the_formula(tmp_path):
    """y_- + w (y_+ - y_-), with the prompt on one side and the negative prompt, or none, on the other."""
    model = vectors()
    place, student = folder_of(model, tmp_path / "a", "full")
    x, t = torch.randn(2, 2), torch.full((2,), 0.5)
    for negative, condition in ((None, 0.0), (["b", "b"], -1.0)):
        posed = attach(model, place).prompted(["a", "a"], 2.5, negative)
        y = posed.predict(x, t, posed.requests.conditions)
        net = model.network.bare
        plus, minus = net(x, t, torch.ones(2, 1)), student(x, t, torch.full((2, 1), condition))
        torch.testing.assert_close(y, minus + 2.5 * (plus - minus), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_another_base_is_refused(kind, tmp_path):
    place, _ = folder_of(vectors(0), tmp_path / "a", kind)
    for other in (vectors(1), tokens()):
        with pytest.raises(
            ValueError, match=r"was trained from 'vectors 0', and '.*' (differs by|has another)"
        ) as error:
            attach(other, place)
        assert "\n" not in str(error.value)
        assert ("give base='vectors 0'" in str(error.value)) == ("differs by" in str(error.value))
    with pytest.raises(ValueError, match="and 'vectors 1' differs by") as error:
        attach(vectors(2), place, base=vectors(1))
    assert "give base" not in str(error.value)
    with pytest.raises(ValueError, match="these are other weights of that name; train the checkpoint again") as error:
        attach(replace(vectors(1), name="vectors 0"), place)
    assert "give base" not in str(error.value)


@pytest.mark.parametrize(("dtype", "share"), [(torch.float16, 9e-4), (torch.bfloat16, 7e-3)])
def test_a_model_that_was_tuned_a_little_is_not_its_base(dtype, share, tmp_path):
    """By less than two steps of its precision: its offset is still carried over, and without the base it is refused."""
    base, tuned = vectors(0, dtype=dtype), vectors(0, dtype=dtype)
    place, student = folder_of(base, tmp_path / "a", "full")
    with torch.no_grad():
        for p in tuned.network.bare.parameters():
            p.mul_(1 + share)
    weights = [model.network.bare.state_dict() for model in (base, tuned)]
    x, t, c = torch.randn(4, 2), torch.rand(4), torch.ones(4, 1)
    for beta in (0.0, 1.0):
        net = Vector().to(dtype)
        net.load_state_dict(merge(weights[0], weights[1], student.state_dict(), 1.0, beta))
        negative = attach(tuned, place, beta=beta, base=base).prompting.negative
        assert torch.equal(negative(x, t, c=c), net(x, t, c))
    with pytest.raises(ValueError, match="differs by"):
        attach(tuned, place)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_has_its_prompts_already_is_led_all_the_same(kind, tmp_path):
    model = vectors()
    place, _ = folder_of(model, tmp_path / "a", kind)
    before, after = attach(model.prompted(["a"] * 6, 3.0), place), attach(model, place).prompted(["a"] * 6, 3.0)
    runs = [drawn(part) for part in (before, after)]
    same(*runs)
    assert [run.stats.network_rows for run in runs] == [2 * 6 * model.steps] * 2
    again = before.prompted(["b"] * 6, 2.0)
    run = drawn(again)
    same(run, drawn(attach(model, place), prompt="b", guidance=2.0))
    assert run.stats.network_rows == 2 * 6 * model.steps


def test_a_token_that_one_side_rules_out():
    """Both sides have it at a weight between them; above, the negative side has nothing to compare with."""
    plus, minus = torch.tensor([[[0.5, 0.5, 0.0]]]).log(), torch.tensor([[[0.9, 0.0, 0.1]]]).log()
    x, t = torch.zeros(1, 1), torch.ones(1)

    def probabilities(w, minus=minus):
        return Guided(lambda x, t: plus, w, lambda x, t: minus)(x, t).softmax(-1)[0, 0].tolist()

    assert probabilities(0.0) == probabilities(0.5) == [1.0, 0.0, 0.0]
    assert probabilities(1.0) == pytest.approx([0.5, 0.5, 0.0])
    odds = (0.5 / 0.9) ** 2 * 0.5
    assert probabilities(3.0) == pytest.approx([odds / (odds + 0.5), 0.5 / (odds + 0.5), 0.0])
    only = torch.tensor([[[0.0, 0.0, 1.0]]]).log()  # then nothing would be left
    assert probabilities(0.5, only) == pytest.approx([0.5, 0.5, 0.0])


def test_a_base_in_another_precision_is_the_same_base(tmp_path):
    """Up to that precision."""
    place, _ = folder_of(vectors(0), tmp_path / "a", "lora")
    for dtype in (torch.bfloat16, torch.float16):
        attach(vectors(0, dtype=dtype), place)
        with pytest.raises(ValueError, match="differs by"):
            attach(vectors(1, dtype=dtype), place)


def test_what_cannot_be_attached(tmp_path):
    model = vectors()
    place, _ = folder_of(model, tmp_path / "a", "full")
    card = json.loads((place / "config.json").read_text())
    card.pop("metrics")
    (place / "config.json").write_text(json.dumps(card))
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.safetensors").write_bytes((place / FULL).read_bytes()[:100])
    weights = model.network.bare.state_dict()
    save_file({key: w for key, w in weights.items() if key != "up.bias"}, tmp_path / "less.safetensors")
    save_file(weights | {"side.bias": torch.zeros(1)}, tmp_path / "more.safetensors")
    save_file(weights | {"up.bias": torch.zeros(9)}, tmp_path / "shape.safetensors")
    for what, options, message in (
        (place, {}, "is not finished; give the same command again"),
        (tmp_path / "empty", {}, "holds no negative checkpoint: none of"),
        (tmp_path / "nowhere", {}, "there is no negative checkpoint"),
        (tmp_path / "torn.safetensors", {}, "is truncated, or no safetensors file"),
        (tmp_path / "less.safetensors", {}, r"up.bias is nothing, the base has \(8,\)"),
        (tmp_path / "more.safetensors", {}, r"side.bias is \(1,\), the base has nothing"),
        (tmp_path / "shape.safetensors", {}, r"up.bias is \(9,\), the base has \(8,\)"),
        (tmp_path / "nowhere", {"alpha": "much"}, "alpha is 'much'"),
        (tmp_path / "nowhere", {"beta": 2.0}, "beta is 2.0"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            attach(model, what, **options)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="does not say which network it has: it takes no negative checkpoint"):
        attach(replace(model, network=None), place)


def test_a_file_without_a_card_is_taken_for_its_architecture(tmp_path):
    """Also where all names begin with the prefix of a wrapper."""
    model, other = vectors(0), Vector(4)
    save_file({f"module.{key}": w for key, w in other.state_dict().items()}, tmp_path / "a.safetensors")
    x, t, c = torch.randn(4, 2), torch.rand(4), torch.ones(4, 1)
    negative = attach(model, tmp_path / "a.safetensors").prompting.negative
    torch.testing.assert_close(negative(x, t, c=c), other(x, t, c), rtol=1e-6, atol=1e-6)


def test_an_unconditional_model_takes_guidance_with_a_negative_checkpoint_only(tmp_path):
    """Its default weight is 1.5."""
    model = tokens()
    for options in ({"guidance": 2.0}, {"rescale": 0.5}):
        with pytest.raises(ValueError, match="unconditional, and has no negative checkpoint"):
            drawn(model, **options)
    place, _ = folder_of(model, tmp_path / "a", "full")
    both = attach(model, place)
    assert drawn(both, guidance=1.0).samples == drawn(model).samples
    assert drawn(both, n=40).samples == drawn(both, n=40, guidance=1.5).samples
    assert drawn(both, n=40, guidance=8.0).samples != drawn(model, n=40).samples
    for options in ({"prompt": "A"}, {"negative_prompt": "A", "guidance": 2.0}):
        with pytest.raises(ValueError, match="takes no prompt: it is unconditional"):
            drawn(both, **options)


def test_guidance_moves_the_law_of_tokens_away_from_the_negative_model(tmp_path):
    """Of fully masked rows: softmax of y_- + w (y_+ - y_-)."""
    model = tokens()
    place, student = folder_of(model, tmp_path / "a", "full")
    both = attach(model, place).prompted([None], 3.0)
    x, t = torch.full((1, 4), 3), torch.ones(1)
    plus, minus = (net(x).log_softmax(-1) for net in (model.network.bare, student))
    torch.testing.assert_close(both.predict(x, t), minus + 3 * (plus - minus), rtol=1e-4, atol=1e-4)


def test_network_rows(tmp_path):
    """Each side has its own network, and is counted; at a weight of 1 there is one side."""
    model = vectors()
    place, _ = folder_of(model, tmp_path / "a", "lora")
    both = attach(model, place)
    for weight, sides in ((2.0, 2), (0.5, 2), (1.0, 1)):
        run = drawn(both, prompt="a", guidance=weight)
        assert run.stats.network_rows == sides * 6 * model.steps
    assert drawn(both, prompt="a").stats.network_rows == 2 * 6 * model.steps  # the model's own weight is 2
    assert drawn(model, prompt="").stats.network_rows == 6 * model.steps
    assert drawn(both, prompt="").stats.network_rows == 2 * 6 * model.steps  # the sides differ without a prompt too


def test_a_conditional_model_without_a_weight_of_its_own_is_led_with_one_and_a_half(tmp_path):
    model = vectors()
    model = replace(model, prompting=replace(model.prompting, guidance=None))
    place, _ = folder_of(model, tmp_path / "a", "lora")
    both = attach(model, place)
    for options in ({}, {"prompt": "a"}):
        assert drawn(model, **options).stats.network_rows == 6 * model.steps
        run = drawn(both, **options)
        assert run.stats.network_rows == 2 * 6 * model.steps
        same(run, drawn(both, guidance=1.5, **options))


def test_svdd_against_a_negative_checkpoint_with_prompts(tmp_path):
    """All candidates are of the guided distribution: samples are the same in any batches, and better than unguided."""
    model = vectors()
    place, _ = folder_of(model, tmp_path / "a", "lora")
    both, prompts = attach(model, place), ["a", "b", "a", "", "b", "a"]

    def first(samples):
        return [float(sample[0]) for sample in samples]

    runs = [
        guided.sample(both, first, sampler=SVDD(M=4), n=6, prompt=prompts, guidance=2.5, batch_size=size)
        for size in (6, 2)
    ]
    same(*runs, rtol=1e-5, atol=1e-5)
    plain = drawn(both, prompt=prompts, guidance=2.5)
    assert runs[0].rewards.mean() > torch.tensor(first(plain.samples)).mean()
    model = attach(tokens(), folder_of(tokens(), tmp_path / "b", "full")[0])
    best = guided.sample(model, lambda s: [x.count("A") for x in s], sampler=SVDD(M=8), n=20, guidance=1.5)
    assert best.rewards.mean() > 1.5 * sum(s.count("A") for s in drawn(model, n=20).samples) / 20
    assert set("".join(best.samples)) <= set(LETTERS)


def test_samples_of_one_checkpoint_are_not_those_of_another(tmp_path):
    """The identity of a model with a checkpoint depends on the file, alpha, beta and the base."""
    model = vectors()
    one, _ = folder_of(model, tmp_path / "a", "full")
    two, _ = folder_of(model, tmp_path / "b", "full", seed=6)
    attached = [
        attach(model, one),
        attach(model, one, alpha=0.5),
        attach(model, one, beta=0.5),
        attach(model, two),
        attach(vectors(1), one, base=model),
        attach(vectors(1), one, base=model, beta=0.5),
    ]
    identities = [model.identity, *(m.identity for m in attached)]
    assert len(set(identities)) == len(identities)
    assert attach(vectors(), one).identity == attach(vectors(), one, alpha=1, beta=0).identity == attached[0].identity


def test_a_pipeline_is_sampled_against_its_checkpoint(tmp_path):
    """The adapter's look-ahead, prompts and precision stay; LoRA weights share the pipeline's own."""
    pipeline = build("sd")
    model = wrap(pipeline, steps=2)
    place, _ = folder_of(model, tmp_path / "a", "lora")
    both = attach(model, place)
    mine = {w.data_ptr() for w in pipeline.unet.parameters()}
    assert mine == {
        w.data_ptr() for name, w in both.prompting.negative.network.net.named_parameters() if "lora_" not in name
    }
    runs = [drawn(m, n=2, prompt="red apple", guidance=w) for m, w in ((model, 1.0), (both, 1.0), (both, 3.0))]
    pixels = [torch.tensor([list(s.tobytes()) for s in run.samples]) for run in runs]
    assert torch.equal(pixels[0], pixels[1]) and not torch.equal(pixels[0], pixels[2])
    assert runs[2].stats.network_rows == 2 * runs[1].stats.network_rows


def test_a_models_own_weight_stays_with_a_checkpoint(tmp_path):
    """It is 2 here; 1.5 is for models without one."""
    model = vectors()
    both = attach(model, folder_of(model, tmp_path / "a", "lora")[0])
    own = drawn(both, prompt="a")
    same(own, drawn(both, prompt="a", guidance=2.0), rtol=0, atol=0)
    other = drawn(both, prompt="a", guidance=1.5)
    assert (torch.stack(list(own.samples)) - torch.stack(list(other.samples))).abs().max() > 1e-3
