"""Pipelines of half precision by their own loop: predictions are theirs, particles stay in single precision."""

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from guided.core.random import Streams
from guided.samplers import Unguided
from tests.adapters.diffusers.loops.cases import CASES
from tests.adapters.diffusers.loops.own import model_of, prompted, recorded

#: With latents in the network's precision, and in float32 beside it (Z-Image, Wan).
NAMES = ("sd", "sdxl", "sd3", "flux", "sd-img2img", "sd-inpaint-9", "qwen-image", "z-image", "wan", "stable-audio")


HALVES = [(name, torch.bfloat16) for name in NAMES] + [(name, torch.float16) for name in ("sd", "flux", "z-image")]


@pytest.mark.parametrize(("name", "dtype"), HALVES)
def test_predictions_are_those_of_the_pipeline(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, where a loop has as many rows as the pipeline."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    case = CASES[name]
    pipeline = case.build()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(dtype)
    model = model_of(case, pipeline, micro_batch=1)
    try:
        record = recorded(case, pipeline)  # now: the model has laid out its convolutions
        steps = range(model.requests.first_step(model.steps), model.steps)
        for k, latents, prediction in zip(steps, record.latents, record.predictions, strict=True):
            t = torch.tensor([model.process.time(k)])
            raw = model.denoiser.network(latents.float(), t, **model.requests.conditions.positive)  # type: ignore[attr-defined]
            assert raw.dtype == torch.float32 and torch.equal(raw, prediction.float()[:, : raw.shape[1]])
        last = Unguided()(prompted(model, case, 2), None, Streams(0, [0, 1])).x
        assert last.dtype == torch.float32 and last.isfinite().all()
        assert len(model.decode(last[:, 0])) == 2
    finally:
        model.close()
