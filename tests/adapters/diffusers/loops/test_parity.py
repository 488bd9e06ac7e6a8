"""Pipelines by their own loop: their latents, predictions and samples are those of the pipelines alone."""

import functools
import threading
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from guided.core.particles import Particles
from guided.core.random import Streams
from tests.adapters.diffusers.loops.cases import CASES
from tests.adapters.diffusers.loops.own import Record, alone, beside, model_of, prompted, recorded
from tests.adapters.diffusers.loops.refused import REFUSED
from tests.adapters.diffusers.loops.table import PAGE, refusal, row

every = pytest.mark.parametrize("name", CASES)
NOISY = ("lcm",)  # whose steps are never without noise


@pytest.fixture(autouse=True)
def means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are encoded to the mean of their distribution, as models do."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


@pytest.fixture(autouse=True)
def ended() -> Any:
    """No loop stays behind."""
    yield
    for _, model in OPEN:
        model.close()
    OPEN.clear()
    assert not [thread for thread in threading.enumerate() if thread.name == "pipeline"]


OPEN: list[tuple[Any, Any]] = []


def models(name: str, eta: float = 0.0, **options: Any) -> tuple[Any, Any]:
    """A case's pipeline, and the model that it is by its own loop; closed after the test."""
    pipeline = built(name)
    OPEN.append((pipeline, model_of(CASES[name], pipeline, eta=eta, **options)))
    return OPEN[-1]


@functools.cache
def built(name: str) -> Any:
    pipeline = CASES[name].build()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@every
def test_latents_predictions_and_samples_are_the_pipelines_own(name: str) -> None:
    pipeline, model = models(name)
    if name in NOISY:
        return check_renoised(name)
    record = recorded(CASES[name], pipeline)
    apart = beside(model, record)
    kept = model.requests.editing is not None and model.requests.editing.free is not None
    *steps, last = [max(pair) for pair in apart]
    assert max(steps) < 1e-4
    assert kept or last < 1e-4  # what is kept is put back after the last step, by the pipeline's last part
    check_samples(model, record)
    assert row(name, pipeline, model) in PAGE.read_text(encoding="utf-8").splitlines()


def check_samples(model: Any, record: Record) -> None:
    assert record.last is not None
    [sample] = model.decode(record.last.float())
    theirs = torch.as_tensor(record.samples)[0].float()
    if model.modality == "audio":
        assert np.abs(np.asarray(sample) - theirs.numpy()).max() < 1e-3
        return
    ours = torch.from_numpy(np.array(sample if model.modality == "images" else [np.array(f) for f in sample]))
    if theirs.shape != ours.shape:
        theirs = theirs.movedim(-3, -1)
    assert (ours - theirs * 255).abs().max() <= 0.51


def check_renoised(name: str) -> None:
    """With the noise of the pipeline's steps, found from what they make of its predictions."""
    pipeline, model = models(name)
    record = recorded(CASES[name], pipeline)
    x = record.latents[0][None].float()
    for k, (now, then) in enumerate(zip(record.latents, [*record.latents[1:], record.last], strict=True)):
        assert then is not None
        particles = Particles(model, x, k, Streams(0, range(1)))
        y = particles.outputs.y
        assert (x[0] - now).abs().max() < 1e-4
        z = (then - model.process.alphas[k + 1] * y) / model.process.sigmas[k + 1] if k + 1 < model.steps else y
        if k + 1 == model.steps:
            assert (y - then).abs().max() < 1e-3
        x = (model.process.alphas[k + 1] * y + model.process.sigmas[k + 1] * z)[None] if k + 1 < model.steps else x


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_model_is_in_the_page_with_its_reason(name: str) -> None:
    assert refusal(name) in PAGE.read_text(encoding="utf-8").splitlines()


@every
def test_each_candidate_has_the_prediction_of_the_pipeline_alone(name: str) -> None:
    pipeline, model = models(name, eta=1.0)
    case = CASES[name]
    particles = model.start(Streams(0, range(1)))
    candidates = particles.propose(4)
    t = torch.full((4,), model.process.time(candidates.k))
    rows = candidates.x[0]
    conditions = {key: value.expand(4) for key, value in model.requests.conditions.positive.items()}
    together = model.denoiser.network(rows, t, **conditions)
    for alternative, prediction in zip(rows[::3], together[::3], strict=True):
        wanted = alone(case, pipeline, alternative[None])[0, : len(prediction)]
        assert (prediction - wanted).abs().max() / wanted.abs().max().clamp(min=1) < 1e-4
    assert (together[0] - together[3]).abs().max() > 1e-3


@every
def test_a_sample_does_not_depend_on_the_others_nor_on_the_micro_batch(name: str) -> None:
    _, model = models(name, eta=1.0)
    case = CASES[name]
    ones = walked(prompted(model, case, 1), 1)
    eight = walked(prompted(model, case, 8), 8)
    _, small = models(name, eta=1.0, micro_batch=3)
    some = walked(prompted(small, case, 8), 8)
    for others in (eight, some):
        assert (ones[0] - others[0]).abs().max() <= 1e-5 * max(1.0, float(ones[0].abs().max()))
    assert (eight[0] - eight[1]).abs().max() > 1e-2


def walked(model: Any, n: int) -> torch.Tensor:
    """The last latents of `n` samples after two steps, with shape `(n, *event)`."""
    particles = model.start(Streams(0, range(n)))
    for _ in range(min(2, model.steps - particles.k)):
        particles = particles.propose(1)
    return particles.x[:, 0]
