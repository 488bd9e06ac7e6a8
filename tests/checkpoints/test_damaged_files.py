"""Damaged checkpoints of other formats: one line with the file, before a network of their sizes is made."""

import json
import math
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import guided
from guided.checkpoints import FOLDER
from guided.errors import GuidedError
from guided.nets.mdlm_cnn import MaskedCNN
from guided.rewards.sequences.oracle import load_oracle


def refused(call: Callable[[], Any], *words: str) -> None:
    with pytest.raises(GuidedError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said and len(said) < 700 and all(word in said for word in words), said


@pytest.fixture
def images(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER / "images", tmp_path / "images")
    return tmp_path / "images"


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_a_weight_that_is_in_no_file_is_not_made_up(images: Path, part: str) -> None:
    """The library of text encoders fills it with random numbers, which change with every process."""
    [file] = (images / part).glob("*.safetensors")
    weights = load_file(file)
    name = sorted(weights)[3]
    del weights[name]
    save_file(weights, file, {"format": "pt"})
    refused(lambda: guided.load(images), str(images), "1 of its weights are in no file", name)


@pytest.mark.parametrize(
    ("file", "entry", "value", "word"),
    [
        ("unet/config.json", "layers_per_block", 10**6, "layers_per_block"),
        ("unet/config.json", "layers_per_block", -1, "layers_per_block"),
        ("unet/config.json", "layers_per_block", [10**6, [2]], "layers_per_block"),
        ("text_encoder/config.json", "num_hidden_layers", 10**7, "num_hidden_layers"),
        ("text_encoder/config.json", "num_hidden_layers", -1, "num_hidden_layers"),
        ("unet/config.json", "sample_size", "x", "sample_size"),
        ("unet/config.json", "sample_size", -1, "sample_size"),
        ("unet/config.json", "sample_size", None, "sample_size"),
        ("unet/config.json", "sample_size", [8, "x"], "sample_size"),
        ("vae/config.json", "scaling_factor", "x", "scaling_factor"),
        ("vae/config.json", "scaling_factor", 0, "scaling_factor"),
        ("vae/config.json", "scaling_factor", math.nan, "scaling_factor"),
    ],
)
def test_sizes_of_a_pipeline(images: Path, file: str, entry: str, value: Any, word: str) -> None:
    config = json.loads((images / file).read_text())
    (images / file).write_text(json.dumps({**config, entry: value}))
    refused(lambda: guided.load(images), word)


@cache
def published() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {f"backbone.{key}": weight for key, weight in MaskedCNN(5, width=8, stacks=1).state_dict().items()}


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "sparse": lambda w: w.to_sparse(),
    "complex": lambda w: w.to(torch.complex64),
    "meta": lambda w: w.to("meta"),
    "nan": lambda w: w * math.nan,
    "nan in float8": lambda w: (w * math.nan).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_in_another_form(tmp_path: Path, form: str) -> None:
    file, key = tmp_path / "net.ckpt", "backbone.convs.0.bias"
    torch.save({"state_dict": {**published(), key: FORMS[form](published()[key])}}, file)
    refused(lambda: guided.load(file, length=9), "net.ckpt", "convs.0.bias")


def test_weights_in_eight_bits_are_read(tmp_path: Path) -> None:
    file, key = tmp_path / "net.ckpt", "backbone.convs.0.bias"
    torch.save({"state_dict": {**published(), key: published()[key].to(torch.float8_e4m3fn)}}, file)
    assert guided.load(file, length=9).process.event == (9,)


def test_a_width_that_is_only_named_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "net.ckpt"
    torch.save({"state_dict": {**published(), "backbone.convs.0.bias": torch.zeros(1).expand(10**9)}}, file)
    refused(lambda: guided.load(file, length=9), "net.ckpt", "1000000000")


@pytest.fixture
def oracle(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER / "dna_oracle" / "guide", tmp_path / "oracle")
    return tmp_path / "oracle"


@pytest.mark.parametrize("entry", ["members", "width"])
@pytest.mark.parametrize("value", ["3", None, -1, 0, 10**9, 2.5, True, [8], ...])
def test_sizes_of_an_oracle(oracle: Path, entry: str, value: Any) -> None:
    config = json.loads((oracle / "config.json").read_text())
    rest = {key: size for key, size in config.items() if key != entry}
    (oracle / "config.json").write_text(json.dumps(rest if value is ... else {**rest, entry: value}))
    refused(lambda: load_oracle(str(oracle)), "config.json", entry)


@pytest.mark.parametrize("members", [900, 1, 5])
def test_an_oracle_of_other_members_is_refused_before_they_are_made(oracle: Path, members: int) -> None:
    config = json.loads((oracle / "config.json").read_text())
    (oracle / "config.json").write_text(json.dumps({**config, "members": members}))
    refused(lambda: load_oracle(str(oracle)), str(oracle))


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 10**5, "\x00"])
def test_an_oracles_file_that_is_none(oracle: Path, text: str) -> None:
    (oracle / "config.json").write_text(text)
    refused(lambda: load_oracle(str(oracle)), "config.json")


def test_an_oracle_with_a_nan_is_refused(oracle: Path) -> None:
    weights = load_file(oracle / "model.safetensors")
    weights["members.0.motifs.bias"][0] = math.nan
    save_file(weights, oracle / "model.safetensors")
    refused(lambda: load_oracle(str(oracle)), "model.safetensors has numbers in members.0.motifs.bias")


@cache
def shipped() -> Any:
    return guided.load("images")


LORA: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "rank 0": lambda weights: {key: w[:0] if "lora_A" in key else w[:, :0] for key, w in weights.items()},
    "whole numbers": lambda weights: {key: w.long() for key, w in weights.items()},
    "nan": lambda weights: {key: w * math.nan for key, w in weights.items()},
    "half": lambda weights: dict(sorted(weights.items())[1:]),
    "another layer": lambda weights: {key.replace("proj_in", "proj_on"): w for key, w in weights.items()},
}


@pytest.mark.parametrize("damage", LORA)
def test_a_damaged_lora_file_is_named(tmp_path: Path, damage: str) -> None:
    weights = load_file(FOLDER / "negatives" / "images" / "pytorch_lora_weights.safetensors")
    file = tmp_path / "lora.safetensors"
    save_file({key: w.contiguous() for key, w in LORA[damage](weights).items()}, file)
    refused(lambda: guided.attach(shipped(), file), "lora.safetensors")


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_lora_weights_that_are_no_numbers_are_not_merged(tmp_path: Path, number: float) -> None:
    weights = load_file(FOLDER / "negatives" / "images" / "pytorch_lora_weights.safetensors")
    key = sorted(weights)[0]
    file = tmp_path / "lora.safetensors"
    save_file({**weights, key: torch.full_like(weights[key], number)}, file)
    refused(lambda: guided.load("images", lora=str(file)), "lora.safetensors", "not finite")
