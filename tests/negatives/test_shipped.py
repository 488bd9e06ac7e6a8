"""The negative checkpoints that the package ships, one for each of its models."""

import pytest
import torch

import guided
from guided.core.random import Streams
from guided.negatives.attach import attach
from guided.negatives.weights import NEGATIVES

MODELS = {"molecules": None, "dna": "HepG2", "rna": "human", "images": "red apple"}


def test_there_is_one_for_each_model():
    assert sorted(folder.name for folder in NEGATIVES.iterdir()) == sorted(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_it_fits_its_model_and_is_small(name):
    """At a weight of 1 samples are those of the model alone, at 3 they are not."""
    size = sum(file.stat().st_size for file in (NEGATIVES / name).iterdir())
    assert size <= 10e6
    model = guided.load(name, steps=4)
    options = {"prompt": MODELS[name], "n": 2, "sampler": "unguided"}
    weight = {} if MODELS[name] is None else {"guidance": 1.0}
    plain = guided.sample(model, **options, **weight)
    alone = guided.sample(model, **options, guidance=1.0, negative=name)
    led = guided.sample(model, **options, guidance=3.0, negative=name)
    for one, other, away in zip(plain.samples, alone.samples, led.samples, strict=True):
        assert one == other and one != away


@pytest.mark.parametrize("name", MODELS)
def test_it_is_near_its_model_and_not_the_same(name):
    """By its predictions of noise alone."""
    model = attach(guided.load(name, steps=8), name)
    cond = model.prompting.conditions([MODELS[name]] * 4)
    x = model.process.prior(1, Streams(0, list(range(4)), model.device))[:, 0]
    t = torch.full((4,), float(model.process.time(0)))
    with torch.no_grad():
        y, away = model.denoiser(x, t, **cond), model.prompting.negative(x, t, **cond)
    y, away = (torch.where(part.isneginf(), -50.0, part) for part in (y, away))
    apart = float((y - away).norm() / y.norm())
    assert 1e-4 < apart < 0.5
