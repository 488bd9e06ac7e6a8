"""Shipped models give the same samples whatever torch's global settings are outside."""

from pathlib import Path
from typing import Any

import pytest
import torch

import guided
from guided.fitting.negative.config import NegativeTraining
from guided.fitting.negative.job import train_negative
from guided.samplers import SVDD
from tests.toys.settings import FOREIGN, foreign

RUNS: dict[str, dict[str, Any]] = {
    "rna": {"reward": "gc", "n": 2, "steps": 3},
    "dna": {"reward": "gc", "n": 1, "steps": 2, "prompt": "HepG2", "guidance": 2.0},
    "molecules": {"reward": "qed", "n": 2, "steps": 3, "negative": "molecules", "guidance": 2.0},
    "images": {"reward": "compressibility", "n": 1, "steps": 2, "prompt": "red apple"},
}


def drawn(name: str, **options: Any) -> tuple[list[Any], list[float]]:
    run = guided.sample(name, sampler=SVDD(M=2, alpha=0.1), device="cpu", **RUNS[name], **options)
    return [s if isinstance(s, str) else s.tobytes() for s in run.samples], run.rewards.tolist()


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return {name: drawn(name) for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("setting", FOREIGN)
def test_a_shipped_model_has_its_own_settings(plain: dict[str, Any], name: str, setting: str) -> None:
    """A default type or device, or autocast, of a notebook reaches neither the weights nor what is computed."""
    with foreign(setting):
        assert drawn(name) == plain[name]


@pytest.mark.parametrize("name", ["rna", "images"])
def test_inference_mode_and_deterministic_algorithms_change_nothing(plain: dict[str, Any], name: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        with torch.inference_mode():
            assert drawn(name) == plain[name]
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fit(tmp_path_factory.mktemp("plain"))


def fit(folder: Path) -> str:
    """A small soft value; all updates happen, and its candidates are looked at."""
    numbers: dict[str, Any] = {"n": 10, "updates": 4, "n_check": 2, "states": 2, "candidates": 2}
    value = guided.fit_value("rna", reward="gc", out=folder / "value", alpha=0.1, steps=3, device="cpu", **numbers)
    return str(value.identity)


@pytest.mark.parametrize("setting", FOREIGN)
def test_a_value_is_fitted_with_its_own_settings(tmp_path: Path, fitted: str, setting: str) -> None:
    with foreign(setting):
        assert fit(tmp_path) == fitted


def trained(folder: Path) -> bytes:
    training = NegativeTraining(n=4, steps=2, batch=2, sheet=0)
    train_negative(guided.load("rna", steps=3, device="cpu"), folder / "negative", training=training)
    return next((folder / "negative").glob("*.safetensors")).read_bytes()


def test_a_negative_checkpoint_is_trained_with_its_own_settings(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain")
    for setting in FOREIGN:
        with foreign(setting):
            assert trained(tmp_path / setting) == plain, setting
