"""Every tensor of a LoRA file has an effect, or the file is refused with those that have none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import guided
from guided.checkpoints import FOLDER
from guided.errors import GuidedError

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def base() -> Any:
    return guided.load("images", steps=2)


def pairs(layers: dict[str, Tensor], name: Callable[[str, str], str], rank: int = 2) -> Weights:
    """Two matrices for each layer, called "down" and "up"."""
    generator, weights = torch.Generator().manual_seed(0), {}
    for layer, weight in layers.items():
        for half, shape in (("down", (rank, weight.shape[1])), ("up", (weight.shape[0], rank))):
            weights[name(layer, half)] = 0.1 * torch.randn(shape, generator=generator)
    return weights


def of_diffusers(prefix: str) -> Callable[[str, str], str]:
    return lambda layer, half: f"{prefix}{layer}.lora_{'A' if half == 'down' else 'B'}.weight"


def of_kohya(part: str) -> Callable[[str, str], str]:
    return lambda layer, half: f"lora_{part}_{layer.replace('.', '_')}.lora_{half}.weight"


@pytest.fixture(scope="module")
def unet(base: Any) -> dict[str, Tensor]:
    state = base.network.bare.state_dict()
    return {key.removesuffix(".weight"): w for key, w in state.items() if key.endswith(("to_q.weight", "to_v.weight"))}


@pytest.fixture(scope="module")
def encoder() -> dict[str, Tensor]:
    import transformers

    state = transformers.CLIPTextModel.from_pretrained(FOLDER / "images" / "text_encoder").state_dict()
    names = {key: f"text_model.{key.removeprefix('text_model.')}" for key in state}
    return {names[k].removesuffix(".weight"): w for k, w in state.items() if ".layers." in k and w.ndim == 2}


def load(path: Path, weights: Weights) -> Any:
    save_file(weights, path / "lora.safetensors")
    return guided.load("images", steps=2, lora=str(path / "lora.safetensors"))


def moved(model: Any, base: Any) -> set[str]:
    before = base.network.bare.state_dict()
    return {key for key, w in model.network.bare.state_dict().items() if not torch.equal(w, before[key])}


@pytest.mark.parametrize("name", [of_diffusers("unet."), of_kohya("unet")], ids=["diffusers", "kohya"])
def test_every_layer_is_moved(name: Any, base: Any, unet: Any, tmp_path: Path) -> None:
    model = load(tmp_path, pairs(unet, name))
    assert moved(model, base) == {f"{layer}.weight" for layer in unet} and model.identity != base.identity


def test_both_halves_of_a_pipeline_are_moved(base: Any, unet: Any, encoder: Any, tmp_path: Path) -> None:
    model = load(tmp_path, pairs(unet, of_kohya("unet")) | pairs(encoder, of_kohya("te")))
    assert len(moved(model, base)) == len(unet)
    words = [m.prompting.conditions(["red apple"])["text"] for m in (model, base)]
    assert not torch.allclose(*words, atol=1e-3)


@pytest.mark.parametrize("prefix", ["base_model.model.", "diffusion_model.", "transformer.", "", "unet.no."])
def test_names_of_another_layout_are_refused(prefix: str, unet: Any, tmp_path: Path) -> None:
    with pytest.raises(GuidedError, match=r"cannot load the LoRA weights .* (32 of 32 tensors fit|\w)") as caught:
        load(tmp_path, pairs(unet, of_diffusers(prefix)))
    assert "\n" not in str(caught.value)


def test_a_tensor_too_many_is_named(unet: Any, tmp_path: Path) -> None:
    first = dict([next(iter(unet.items()))])
    extra = pairs({"no_such_layer.to_q": next(iter(unet.values()))}, of_diffusers("unet."))
    with pytest.raises(GuidedError, match="no_such_layer"):
        load(tmp_path, pairs(first, of_diffusers("unet.")) | extra)


def test_what_is_more_than_two_matrices_is_refused(unet: Any, tmp_path: Path) -> None:
    """DoRA's scales are left out by diffusers with no more than a warning."""
    weights, layer = pairs(unet, of_diffusers("unet.")), next(iter(unet))
    weights[f"unet.{layer}.dora_scale"] = torch.ones(len(unet[layer]))
    with pytest.raises(GuidedError, match=r"tensors that are not used: .*dora_scale"):
        load(tmp_path, weights)


def test_half_precision_is_the_same_file(base: Any, unet: Any, tmp_path: Path) -> None:
    save_file(pairs(unet, of_diffusers("unet.")), tmp_path / "lora.safetensors")
    model = guided.load("images", steps=2, dtype="bfloat16", lora=[str(tmp_path / "lora.safetensors")] * 2)
    assert model.identity != base.identity


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_what_is_no_file_of_weights_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(GuidedError, match="cannot load the LoRA weights") as caught:
        guided.load("images", lora=str(tmp_path / "a.safetensors"))
    assert "\n" not in str(caught.value)


def test_the_text_encoders_half_is_refused_as_a_negative(base: Any, unet: Any, encoder: Any, tmp_path: Path) -> None:
    weights, text = pairs(unet, of_kohya("unet")), pairs(encoder, of_kohya("te"))
    save_file(weights, tmp_path / "a.safetensors")
    guided.attach(base, tmp_path / "a.safetensors")
    save_file(weights | text, tmp_path / "b.safetensors")
    with pytest.raises(
        GuidedError, match=f"{len(text)} of the file's {len(weights) + len(text)} LoRA tensors"
    ) as caught:
        guided.attach(base, tmp_path / "b.safetensors")
    assert "text_encoder" in str(caught.value)
