"""The temperature of the tokens, which the models of molecules and nucleotides take."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import guided
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.nets.convolution import TokenConvolution

CONFIG = {
    "kind": "nucleotides",
    "alphabet": "ACGT",
    "length": 12,
    "labels": ["none", "K562"],
    "width": 8,
    "kernel": 3,
    "dilations": [1],
    "steps": 3,
}


@pytest.fixture(params=[{}, {"temperature": 2.0}])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_file(TokenConvolution(4, 2, 8, 3, (1,)).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **request.param}))
    return tmp_path


def test_own_temperature_is_the_configurations(folder: Path) -> None:
    own = json.loads((folder / "config.json").read_text()).get("temperature", 1.0)
    assert guided.load(folder).process.distribution["temperature"] == own


@pytest.mark.parametrize("temperature", [0.25, np.float32(0.25)])
def test_tokens_follow_the_given_temperature(folder: Path, temperature: float) -> None:
    model = guided.load(folder, temperature=temperature, steps=1)
    assert model.process.distribution["temperature"] == 0.25
    x = torch.full((1, 1, 12), 4)
    y = model.denoiser(x[0], torch.ones(1), label=torch.ones(1, dtype=torch.long))
    drawn = model.process.draw(x, y[None], 20_000, Streams(0, [0]))
    share = torch.nn.functional.one_hot(drawn[0], 4).double().mean(0)
    torch.testing.assert_close(share, (4 * y[0].double()).softmax(-1), atol=0.02, rtol=0)


def test_temperature_is_part_of_the_name(folder: Path) -> None:
    """A run's record names the model with it, and loads it again."""
    model = guided.load(folder, temperature=1.5)
    assert model.name == f"{folder}?temperature=1.5"
    again = guided.load(model.name)
    assert again.process.distribution == model.process.distribution
    assert again.name == model.name


@pytest.mark.parametrize("name", ["molecules", "molecules_selfies", "dna", "rna"])
def test_shipped_models_of_tokens_take_it(name: str) -> None:
    assert guided.load(f"{name}?temperature=1.02", device="cpu").process.distribution["temperature"] == 1.02


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf"), True, "warm"])
def test_what_is_no_temperature_is_refused(folder: Path, wrong: object) -> None:
    with pytest.raises(GuidedError, match=r"temperature is .*; it must be a finite number, above 0"):
        guided.load(folder, temperature=wrong)
