"""Low-rank adapters: on views of a network, and in the layouts that diffusers and kohya's scripts write."""

import math

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from guided.core.denoiser import view
from guided.fitting.negative.job import save
from guided.negatives.attach import attach
from guided.negatives.lora import add_lora, lora_weights, merged_weights, put_lora, scale_lora
from guided.negatives.weights import FULL, LORA, read_negative
from tests.adapters.diffusers.pipelines.families import build
from tests.adapters.diffusers.pipelines.parity import wrapped
from tests.toys.small import Vector, tokens, vectors


def scattered(adapted, seed=0):
    """Adapters that have an effect: new ones begin at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if ".lora_" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return adapted


def inputs(n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator), torch.rand(n, generator=generator), torch.ones(n, 1)


def parameters(module):
    return {name: p.clone() for name, p in module.named_parameters()}


def test_new_adapters_change_nothing():
    net, given = Vector().eval(), inputs()
    adapted = add_lora(net, 3)
    assert torch.equal(adapted(*given), net(*given))
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained == {f"{layer}.lora_{half}.negative.weight" for layer in ("up", "down") for half in "AB"}
    adapted(*given).square().sum().backward()
    assert all(p.grad is None for p in net.parameters())


def test_a_view_shares_the_weights_and_leaves_the_network_without_adapters():
    net, given = Vector().eval(), inputs()
    net.register_buffer("offset", torch.ones(2))
    before, wanted = parameters(net), net(*given)
    other = view(net)
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert other.offset.data_ptr() == net.offset.data_ptr()
    adapted = scattered(add_lora(net, 2))
    assert adapted.up.base_layer.weight.data_ptr() == net.up.weight.data_ptr()
    assert type(net.up) is torch.nn.Linear and parameters(net).keys() == before.keys()
    assert torch.equal(net(*given), wanted) and not torch.allclose(adapted(*given), wanted, atol=0.1)


@pytest.mark.parametrize("kind", ["vectors", "tokens"])
def test_a_file_gives_the_student_back(kind, tmp_path):
    """Up to half precision."""
    model = vectors() if kind == "vectors" else tokens()
    net = model.network.bare
    student = scattered(add_lora(net, 2))
    save(student, tmp_path, "", lora=True)
    checkpoint = read_negative(tmp_path, model.network)
    assert checkpoint.lora and {w.dtype for w in checkpoint.weights.values()} == {torch.float16}
    again = put_lora(net, checkpoint.weights, "")
    given = inputs() if kind == "vectors" else (torch.randint(0, 4, (5, 4)),)
    torch.testing.assert_close(again(*given), student(*given), rtol=1e-2, atol=1e-2)
    assert (again(*given) - net(*given)).abs().max() > 0.1
    exact = put_lora(net, lora_weights(student, ""), "")
    assert torch.equal(exact(*given), student(*given))


def test_full_weights_are_the_networks_own_names(tmp_path):
    student, model = Vector(3), vectors()
    save(student, tmp_path, "", lora=False)
    checkpoint = read_negative(tmp_path / FULL, model.network)
    assert not checkpoint.lora and checkpoint.weights.keys() == student.state_dict().keys()
    for name, w in student.state_dict().items():
        torch.testing.assert_close(checkpoint.weights[name].float(), w, rtol=1e-3, atol=1e-4)


def test_merged_weights_are_those_of_the_adapted_network():
    """Also with a scale and with alphas that are not the ranks."""
    net, given = Vector().eval(), inputs()
    weights = lora_weights(scattered(add_lora(net, 2)), "")
    adapted = put_lora(net, weights, "", {"network.up.alpha": 5.0})
    scale_lora(adapted, -0.7)
    plain = Vector(9)
    plain.load_state_dict(merged_weights(adapted))
    torch.testing.assert_close(plain(*given), adapted(*given), rtol=1e-5, atol=1e-5)


def test_what_a_scale_and_an_alpha_mean():
    """W + factor alpha / rank B A."""
    net = Vector()
    weights = lora_weights(scattered(add_lora(net, 2)), "")
    adapted = put_lora(net, weights, "", {"network.up.alpha": 6.0})
    scale_lora(adapted, 0.5)
    merged = merged_weights(adapted)
    for layer, factor in (("up", 0.5 * 6 / 2), ("down", 0.5)):
        delta = weights[f"network.{layer}.lora_B.weight"] @ weights[f"network.{layer}.lora_A.weight"]
        torch.testing.assert_close(merged[f"{layer}.weight"], getattr(net, layer).weight + factor * delta)
        torch.testing.assert_close(merged[f"{layer}.bias"], getattr(net, layer).bias)


def test_layers_with_names_that_end_alike_have_ranks_of_their_own():
    net = torch.nn.ModuleDict({"up": torch.nn.Linear(3, 3), "a": torch.nn.ModuleDict({"up": torch.nn.Linear(3, 3)})})
    weights = {}
    for layer, rank in (("up", 1), ("a.up", 3)):
        weights |= {f"network.{layer}.lora_A.weight": torch.randn(rank, 3)}
        weights |= {f"network.{layer}.lora_B.weight": torch.randn(3, rank)}
    merged = merged_weights(put_lora(net, weights, "", {"network.up.alpha": 2.0}))
    for layer, factor in (("up", 2.0), ("a.up", 1.0)):
        delta = weights[f"network.{layer}.lora_B.weight"] @ weights[f"network.{layer}.lora_A.weight"]
        torch.testing.assert_close(merged[f"{layer}.weight"], net.state_dict()[f"{layer}.weight"] + factor * delta)


def test_a_network_without_such_layers():
    with pytest.raises(ValueError, match="no layers for LoRA weights"):
        add_lora(torch.nn.Sequential(torch.nn.Linear(2, 2)), 2)


def broken(name):
    """LoRA weights of two layers with a fault, and the error's message."""
    weights = lora_weights(add_lora(Vector(), 2), "")
    up, down = ("network.up.lora_A.weight", "network.up.lora_B.weight")
    if name == "half":
        del weights[down]
        return weights, r"of 'up' are not complete: lora_B"
    if name == "other layer":
        weights |= {key.replace("up", "side"): weights[key].clone() for key in (up, down)}
        return weights, "for 'side', which is not a layer of the network"
    if name == "input":
        weights[up] = torch.zeros(2, 5)
        return weights, r"\(2, 5\) and \(8, 2\) are for 'up', which has shape \(8, 4\)"
    if name == "output":
        weights[down] = torch.zeros(7, 2)
        return weights, r"\(2, 4\) and \(7, 2\) are for 'up', which has shape \(8, 4\)"
    if name == "rank":
        weights[down] = torch.zeros(8, 3)
        return weights, r"\(2, 4\) and \(8, 3\) are for 'up'"
    if name == "axes":
        weights[up] = torch.zeros(2, 4, 3, 3)
        return weights, r"\(2, 4, 3, 3\) and \(8, 2\) are for 'up'"
    if name == "part":
        return {f"unet.{key}": w for key, w in weights.items()}, "no LoRA weights whose names begin with 'network.'"
    weights["network.up.dora_scale.weight"] = torch.zeros(8)
    return weights, "of 'up' are not complete"


@pytest.mark.parametrize("name", ["half", "other layer", "input", "output", "rank", "axes", "part", "more"])
def test_weights_of_another_network(name, tmp_path):
    weights, message = broken(name)
    save_file(weights, tmp_path / LORA)
    with pytest.raises(ValueError, match=message):
        attach(vectors(), tmp_path)


def test_a_layer_that_is_a_norm_or_has_another_kernel():
    net = torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(4), "conv1": torch.nn.Conv2d(4, 4, 3)})
    for layer, a, b in (("norm", (2, 4), (4, 2)), ("conv1", (2, 4, 1, 1), (4, 2, 1, 1)), ("conv1", (2, 4), (4, 2))):
        weights = {f"network.{layer}.lora_{half}.weight": torch.zeros(shape) for half, shape in (("A", a), ("B", b))}
        with pytest.raises(ValueError, match=f"are for '{layer}', which has shape"):
            put_lora(net, weights, "")


def adapters_of(pipeline, name, rank=3):
    """LoRA weights on the network of a pipeline as diffusers writes them, `layer.lora_A.weight`; with an effect."""
    net = pipeline.transformer if hasattr(pipeline, "transformer") else pipeline.unet
    targets = ["to_q", "to_k", "to_v", "to_out.0"] + (["conv1"] if hasattr(pipeline, "unet") else [])
    net.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights="gaussian"))
    generator = torch.Generator().manual_seed(1)
    weights = get_peft_model_state_dict(net)
    return {key: 0.2 * torch.randn(w.shape, generator=generator) for key, w in weights.items()}


def sides(model, name):
    """The outputs of the denoiser and of the negative one for two prompts."""
    x = torch.randn(2, *model.process.event, generator=torch.Generator().manual_seed(0))
    t = torch.full((2,), float(model.process.times[1]))
    cond = model.prompting.conditions(["red apple", "cat"])
    with torch.no_grad():
        return [side(x, t, **cond) for side in (model.denoiser, model.prompting.negative) if side is not None]


def equals_diffusers(name, place, load):
    """The negative side is the network into which the pipeline itself loaded the same file."""
    model = attach(wrapped(build(name), name), place)
    pipeline = build(name)
    load(pipeline)
    plain, negative = sides(model, name)
    (wanted,) = sides(wrapped(pipeline, name), name)
    scale = float(wanted.abs().max())
    torch.testing.assert_close(negative / scale, wanted / scale, rtol=0, atol=1e-5)
    assert (negative - plain).abs().max() / scale > 1e-2  # the adapters do something
    torch.testing.assert_close(sides(wrapped(build(name), name), name)[0], plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "cogvideox"])
def test_a_file_that_diffusers_wrote(name, tmp_path):
    pipeline = build(name)
    weights = adapters_of(pipeline, name)
    layers = {("transformer" if hasattr(pipeline, "transformer") else "unet") + "_lora_layers": weights}
    pipeline.save_lora_weights(tmp_path, **layers)
    equals_diffusers(name, tmp_path, lambda pipeline: pipeline.load_lora_weights(tmp_path))


def kohyas(file, alpha):
    """Writes LoRA weights of rank 4 as kohya's scripts do, with names with underscores; what it adds to each weight."""
    weights, halves = {}, adapters_of(build("sd"), "sd", rank=4)
    for key, w in halves.items():
        layer, _, half = key.removesuffix(".weight").rpartition(".")
        start = "lora_unet_" + layer.replace(".", "_")
        weights[f"{start}.{({'lora_A': 'lora_down', 'lora_B': 'lora_up'})[half]}.weight"] = w
        weights[f"{start}.alpha"] = torch.tensor(alpha(layer))
    save_file(weights, file)
    layers = [key.removesuffix(".lora_A.weight") for key in halves if "lora_A" in key]
    return {
        f"{layer}.weight": alpha(layer)
        / 4
        * torch.einsum("or...,ri...->oi...", halves[f"{layer}.lora_B.weight"], halves[f"{layer}.lora_A.weight"])
        for layer in layers
    }


def test_a_file_of_kohyas_scripts(tmp_path):
    """With an alpha that is not the rank."""
    file = tmp_path / "negative.safetensors"
    kohyas(file, lambda layer: 2.0)
    equals_diffusers("sd", file, lambda pipeline: pipeline.load_lora_weights(file))


def test_alphas_of_each_layer(tmp_path):
    """W + alpha / rank B A; diffusers itself takes one alpha for layers of attention."""
    file = tmp_path / "negative.safetensors"
    delta = kohyas(file, lambda layer: 2.0 if "to_q" in layer else 6.0)

    def load(pipeline):
        state = pipeline.unet.state_dict()
        pipeline.unet.load_state_dict({key: w + delta.get(key, 0.0) for key, w in state.items()})

    equals_diffusers("sd", file, load)


@pytest.mark.parametrize("form", ["safetensors", "torch", "torch state_dict", "prefixed"])
def test_a_whole_state_of_a_network(form, tmp_path):
    other = build("sd", seed=1).unet.state_dict()
    file = tmp_path / ("unet.safetensors" if form == "safetensors" else "unet.bin")
    if form == "safetensors":
        save_file({key: w.contiguous() for key, w in other.items()}, file)
    elif form == "prefixed":
        torch.save({f"unet.{key}": w for key, w in other.items()}, file)
    else:
        torch.save({"state_dict": other} if form.endswith("dict") else other, file)
    equals_diffusers("sd", file, lambda pipeline: pipeline.unet.load_state_dict(other))


def test_a_lora_of_a_student_on_a_pipeline_is_one_that_diffusers_loads(tmp_path):
    model = wrapped(build("sd"), "sd")
    save(scattered(add_lora(model.network.bare, 2)), tmp_path, model.network.part, lora=True)
    equals_diffusers("sd", tmp_path, lambda pipeline: pipeline.load_lora_weights(tmp_path))


def test_the_rank_bounds_what_adapters_add():
    net = Vector()
    delta = merged_weights(scattered(add_lora(net, 1)))["up.weight"] - net.up.weight
    values = torch.linalg.svdvals(delta.double())
    assert values[0] > 0.01 and values[1] < 1e-6 * math.sqrt(delta.numel())
