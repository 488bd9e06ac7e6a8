"""The adapter walks as diffusers does: the same latents and noise in, the same latents after every step."""

import numpy as np
import pytest
import torch

from guided.core.random import Streams
from tests.adapters.diffusers.pipelines import FAMILIES, build
from tests.adapters.diffusers.pipelines.parity import (
    compare,
    expected,
    model_of,
    pipeline_of,
    posed,
    prompts_of,
    wrapped,
)

diffusers = pytest.importorskip("diffusers")

GUIDED = [name for name, family in FAMILIES.items() if family.guided]
every = pytest.mark.parametrize("name", FAMILIES)
prompted = pytest.mark.parametrize("name", GUIDED)


@pytest.mark.parametrize(("name", "guidance"), [(name, None) for name in FAMILIES] + [(name, 3.0) for name in GUIDED])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("B", [1, 3])
def test_every_step_is_that_of_diffusers(name: str, eta: float, B: int, guidance: float | None) -> None:
    model, pipeline = posed(model_of(name, eta), name, B, guidance), pipeline_of(name, eta)
    compare(model, expected(model, pipeline, name, B, guidance))


@every
def test_samples_are_decoded_as_by_diffusers(name: str) -> None:
    model = posed(model_of(name, 0.0), name, 2, None)
    run = expected(model, pipeline_of(name, 0.0), name, 2, None)
    ours = torch.from_numpy(np.array([np.array(sample) for sample in model.decode(run.steps[-1])]))
    assert ours.dtype == torch.uint8
    theirs = run.images.movedim(-3, -1) * 255
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 0.51


RECTANGLES = {
    "sd": (16, 24),
    "sdxl": (24, 16),
    "sd3": (16, 8),
    "flux": (16, 24),
    "pixart": (24, 16),
    "pixart-alpha": (24, 16),
    "cogvideox": (32, 16),
    "cogvideox-rotary": (16, 32),
}


@pytest.mark.parametrize("name", RECTANGLES)
def test_sizes_other_than_square(name: str) -> None:
    height, width = RECTANGLES[name]
    model = posed(wrapped(build(name), name, eta=0.0, height=height, width=width), name, 2, 3.0)
    run = expected(model, pipeline_of(name, 0.0), name, 2, 3.0)
    assert run.images.shape[-2:] == (height, width)
    compare(model, run)


@pytest.mark.parametrize("name", ["sd-v", "sdxl"])
def test_rescaled_guidance_is_that_of_diffusers(name: str) -> None:
    model = posed(model_of(name, 0.0), name, 3, 5.0, rescale=0.7)
    run = expected(model, pipeline_of(name, 0.0), name, 3, 5.0, guidance_rescale=0.7)
    compare(model, run)
    plain = expected(model, pipeline_of(name, 0.0), name, 3, 5.0)
    assert (run.steps[-1] - plain.steps[-1]).abs().max() > 0.1


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("dit", "ddpm", "ddpm-clipped")])
def test_negative_prompts_are_those_of_diffusers(name: str) -> None:
    negative = ["dog", "", "pink cat"]
    model = posed(model_of(name, 0.0), name, 3, 3.0, negative=negative)
    compare(model, expected(model, pipeline_of(name, 0.0), name, 3, 3.0, negative_prompt=negative))


def test_a_distilled_network_is_told_its_guidance() -> None:
    model = posed(wrapped(build("flux-distilled"), "flux-distilled", eta=0.0, distilled=1.5), "flux-distilled", 2, None)
    pipeline = pipeline_of("flux-distilled", 0.0)
    run = expected(model, pipeline, "flux-distilled", 2, None, guidance_scale=1.5)
    compare(model, run)
    other = expected(model, pipeline, "flux-distilled", 2, None)
    assert (run.steps[-1] - other.steps[-1]).abs().max() > 0.01


@prompted
@pytest.mark.parametrize("M", [4, 5])
@pytest.mark.parametrize("micro_batch", [5, 64])
def test_each_candidate_is_guided_by_its_own_prompt(name: str, M: int, micro_batch: int) -> None:
    model = wrapped(build(name), name, eta=1.0, micro_batch=micro_batch)
    prompts, streams = prompts_of(name, 3), Streams(0, range(3))
    sides = [model.prompted(prompts, weight) for weight in (2.0, 3.0)]
    particles = sides[0].start(streams)
    particles = particles.propose(1).propose(M)  # (3, M, *event)
    low, high = (side.evaluate(particles.x, particles.k) for side in sides)
    together = (high.y - low.y)[high.index]  # y_- + w (y_+ - y_-) at w = 3 less that at w = 2
    times = torch.full((M,), model.process.time(particles.k))
    for b, prompt in enumerate(prompts):
        mine, none = (
            torch.cat(
                [
                    model.denoiser(x[None], t[None], **model.prompting.conditions([words]))
                    for x, t in zip(particles.x[b], times, strict=True)
                ]
            )
            for words in (prompt, None)
        )
        assert (mine - none).flatten(1).std(1).min() > 0.01
        torch.testing.assert_close(together[b], mine - none, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux"])
def test_the_class_for_images_to_start_from_has_the_same_steps(name: str) -> None:
    kind = diffusers.AutoPipelineForImage2Image.from_pipe(build(name))
    model = posed(wrapped(kind, name, eta=0.0), name, 2, 3.0)
    compare(model, expected(model, pipeline_of(name, 0.0), name, 2, 3.0))
