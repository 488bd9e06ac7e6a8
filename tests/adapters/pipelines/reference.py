"""What diffusers does with the latents and the noise that it is given: its own pipeline call, watched."""

__all__ = ["Trajectory", "ddim", "draws", "reference"]

import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import diffusers
import torch
from torch import Tensor


@dataclass(frozen=True)
class Trajectory:
    """What a call did.

    Attributes:
        start: The latents before the first step, with shape `(B, *event)`.
        steps: The latents after each of the K steps.
        times: The time that the scheduler was told at each.
        images: The decoded samples in [0, 1], with shape `(B, 3, H, W)`, or `(B, F, 3, H, W)` of a video.
    """

    start: Tensor
    steps: list[Tensor]
    times: list[float]
    images: Tensor


def draws(event: Sequence[int], B: int, K: int, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """Initial latents and K step noises, with shape `(B, *event)` each."""
    generator = torch.Generator().manual_seed(seed)
    first, *noises = (torch.randn(B, *event, generator=generator) for _ in range(K + 1))
    return first, noises


def ddim(pipeline: Any, **changes: Any) -> Any:
    """Swaps the pipeline's scheduler for DDIM with the same noise schedule, and returns the pipeline.

    What DDIM would clip by default, and the shift of CogVideoX that DDIM does not know, are kept as they were.
    """
    old = pipeline.scheduler
    if not isinstance(old, diffusers.DDIMScheduler):
        changes = {"clip_sample": bool(old.config.get("clip_sample", False)), **changes}
    new = diffusers.DDIMScheduler.from_config(old.config, **changes)
    if isinstance(old, diffusers.CogVideoXDDIMScheduler):
        new.alphas_cumprod, new.final_alpha_cumprod = old.alphas_cumprod.float(), old.final_alpha_cumprod
    pipeline.scheduler = new
    return pipeline


def reference(
    pipeline: Any,
    prompts: Sequence[str] | None,
    latents: Tensor,
    K: int,
    guidance: float | None = None,
    eta: float = 0.0,
    noises: Sequence[Tensor] = (),
) -> Trajectory:
    """Runs the pipeline's own call.

    Arguments:
        pipeline: The pipeline; its scheduler does the steps, so one that ignores eta ignores it here too.
        prompts: B prompts; the names of classes for DiT, None for DDPM.
        latents: Standard normal numbers with shape `(B, *event)`, before any scale of the scheduler's.
        K: The number of steps.
        guidance: The weight of classifier-free guidance; None for none. A distilled model is told it instead.
        eta: What the scheduler's step is told where it takes an eta.
        noises: What the scheduler draws, in order, with shape `(B, *event)` each.
    """
    steps: list[Tensor] = []
    times: list[float] = []
    start: list[Tensor] = []
    step = pipeline.scheduler.step

    @functools.wraps(step)  # pipelines ask its signature
    def watched(output: Tensor, t: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if "eta" in inspect.signature(step).parameters:
            kwargs["eta"] = eta
        result = step(output, t, x, *args, **kwargs)
        start.append(x[: len(latents)].clone())
        times.append(float(t))
        steps.append(result[0][: len(latents)].clone())  # DiT steps both halves of its doubled batch
        return result

    with _drawing(pipeline, latents, noises), patch.object(pipeline.scheduler, "step", watched):
        call = _call(pipeline, prompts, latents, guidance)
        output = pipeline(num_inference_steps=K, output_type="pt", **call)
    return Trajectory(start[0], steps, times, output[0] if isinstance(output, tuple) else next(iter(output.values())))


def _call(pipeline: Any, prompts: Sequence[str] | None, latents: Tensor, guidance: float | None) -> dict[str, Any]:
    """The arguments of the pipeline's call."""
    if isinstance(pipeline, diffusers.DDPMPipeline):
        return {"batch_size": len(latents)}
    weight = 1.0 if guidance is None else guidance
    if isinstance(pipeline, diffusers.DiTPipeline):
        return {"class_labels": pipeline.get_label_ids(list(prompts or ())), "guidance_scale": weight}
    call: dict[str, Any] = {"prompt": list(prompts or ()), "latents": latents, "guidance_scale": weight}
    height, width = latents.shape[-2:]
    scale = getattr(pipeline, "vae_scale_factor", None) or pipeline.vae_scale_factor_spatial
    if isinstance(pipeline, diffusers.FluxPipeline):
        height = width = 2 * math.isqrt(latents.shape[1])  # patches of 2x2 are one token
        if not pipeline.transformer.config.guidance_embeds:
            call |= {"true_cfg_scale": weight, "negative_prompt": [""] * len(latents)}
        elif guidance is None:
            del call["guidance_scale"]
    if isinstance(pipeline, diffusers.PixArtSigmaPipeline):
        call |= {"use_resolution_binning": False, "clean_caption": False}
    return call | {"height": height * scale, "width": width * scale}


@contextmanager
def _drawing(pipeline: Any, latents: Tensor, noises: Sequence[Tensor]) -> Iterator[None]:
    """Has the pipeline draw the latents, where it takes none, and its scheduler the noises."""
    remaining = iter(noises)

    def noise(shape: Any, **_: Any) -> Tensor:
        given = next(remaining, None)
        if given is None:
            raise ValueError(f"the scheduler draws more than the {len(noises)} noises that are given")
        return _doubled(given, shape)

    def first(shape: Any, **_: Any) -> Tensor:
        return _doubled(latents, shape)

    with _randn(pipeline, first), _randn(pipeline.scheduler, noise):
        yield


def _randn(owner: Any, draw: Callable[..., Tensor]) -> Any:
    return patch.object(sys.modules[type(owner).__module__], "randn_tensor", draw, create=True)


def _doubled(x: Tensor, shape: Any) -> Tensor:
    n = shape[0] // len(x)
    assert tuple(shape) == (n * len(x), *x.shape[1:]), f"drawn are {tuple(shape)}, given {tuple(x.shape)}"
    return x.repeat(n, *[1] * (x.ndim - 1))
