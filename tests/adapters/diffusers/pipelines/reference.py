"""Reference: diffusers' own pipeline call on given latents and noise, recorded step by step."""

__all__ = ["Trajectory", "ancestral_flow", "ddim", "draws", "reference"]

import functools
import inspect
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
        times: The time that the scheduler was given at each.
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
    changes = {"clip_sample": bool(old.config.get("clip_sample", False)), **changes}
    new = diffusers.DDIMScheduler.from_config(old.config, **changes)
    if isinstance(old, diffusers.CogVideoXDDIMScheduler | diffusers.CogVideoXDPMScheduler):
        new.alphas_cumprod, new.final_alpha_cumprod = old.alphas_cumprod.float(), old.final_alpha_cumprod
    pipeline.scheduler = new
    return pipeline


def ancestral_flow(pipeline: Any) -> Any:
    """Has the pipeline's flow draw from the posterior of a step given the clean mean, and returns the pipeline.

    No scheduler of diffusers does. With x_t = a_t x + s_t e and the forward step x_t = a x_s + s e' between them, the
    posterior has the mean (a s_s^2 x_t + a_s s^2 x) / s_t^2 and the variance (s s_s / s_t)^2.
    """
    scheduler = pipeline.scheduler

    def step(velocity: Tensor, t: Any, x: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        k = scheduler.timesteps.tolist().index(float(t))
        s_t, s_s = (float(s) for s in scheduler.sigmas[k : k + 2])
        a = (1 - s_t) / (1 - s_s)
        variance = s_t**2 - (a * s_s) ** 2
        noise = sys.modules[type(scheduler).__module__].randn_tensor(x.shape)
        clean = x - s_t * velocity
        mean = (a * s_s**2 * x + (1 - s_s) * variance * clean) / s_t**2
        return (mean + variance**0.5 * s_s / s_t * noise,)

    scheduler.step = step
    return pipeline


def reference(
    pipeline: Any,
    prompts: Sequence[str] | None,
    latents: Tensor,
    K: int,
    guidance: float | None = None,
    eta: float = 0.0,
    noises: Sequence[Tensor] = (),
    **more: Any,
) -> Trajectory:
    """Runs the pipeline's own call.

    Args:
        pipeline: The pipeline; its scheduler does the steps, so one that ignores eta ignores it here too.
        prompts: B prompts; the names of classes for DiT, None for DDPM.
        latents: Standard normal numbers with shape `(B, *event)`, before any scale of the scheduler's.
        K: The number of steps.
        guidance: The weight of classifier-free guidance; None for none.
        eta: What the scheduler's step is given where it takes an eta.
        noises: What the scheduler draws, in order, with shape `(B, *event)` each.
        more: Further arguments of the call.
    """
    start: list[Tensor] = []
    steps: list[Tensor] = []
    times: list[float] = []
    step = pipeline.scheduler.step
    options = {"eta": eta, "use_clipped_model_output": True}  # or else a clipped step would not be one to a clean mean
    options = {name: value for name, value in options.items() if name in inspect.signature(step).parameters}

    @functools.wraps(step)  # pipelines ask its signature
    def watched(output: Tensor, t: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = step(output, t, x, *args, **kwargs | options)
        for kept, now in ((start, x), (steps, result[0])):  # DiT steps both halves of its doubled batch
            kept.append(_unpacked(pipeline, now[: len(latents)].clone(), latents.shape[-2:]))
        times.append(float(t))
        return result

    with _drawing(pipeline, latents, noises), patch.object(pipeline.scheduler, "step", watched):
        call = _call(pipeline, prompts, latents, guidance) | more
        output = pipeline(num_inference_steps=K, output_type="pt", **call)
    return Trajectory(start[0], steps, times, output[0])


def _call(pipeline: Any, prompts: Sequence[str] | None, latents: Tensor, guidance: float | None) -> dict[str, Any]:
    """The arguments of the pipeline's call."""
    if isinstance(pipeline, diffusers.DDPMPipeline):
        return {"batch_size": len(latents)}
    weight = 1.0 if guidance is None else guidance
    if isinstance(pipeline, diffusers.DiTPipeline):
        return {"class_labels": pipeline.get_label_ids(list(prompts or ())), "guidance_scale": weight}
    scale = getattr(pipeline, "vae_scale_factor", None) or pipeline.vae_scale_factor_spatial
    height, width = (side * scale for side in latents.shape[-2:])
    call = {"prompt": list(prompts or ()), "height": height, "width": width}
    if isinstance(pipeline, diffusers.FluxPipeline):  # its guidance_scale is that of distilled networks
        none = [""] * len(latents)
        return {**call, "latents": _packed(pipeline, latents), "true_cfg_scale": weight, "negative_prompt": none}
    call |= {"latents": latents, "guidance_scale": weight}
    if isinstance(pipeline, diffusers.CogVideoXPipeline):
        call["max_sequence_length"] = pipeline.transformer.config.max_text_seq_length
    if isinstance(pipeline, diffusers.PixArtSigmaPipeline | diffusers.PixArtAlphaPipeline):
        call |= {"use_resolution_binning": False, "clean_caption": False}
    return call


def _packed(pipeline: Any, x: Tensor) -> Tensor:
    """Two by two latents are one token of Flux."""
    return pipeline._pack_latents(x, *x.shape) if isinstance(pipeline, diffusers.FluxPipeline) else x


def _unpacked(pipeline: Any, x: Tensor, sides: Sequence[int]) -> Tensor:
    if not isinstance(pipeline, diffusers.FluxPipeline):
        return x
    scale = pipeline.vae_scale_factor
    return pipeline._unpack_latents(x, *(scale * side for side in sides), scale)


@contextmanager
def _drawing(pipeline: Any, latents: Tensor, noises: Sequence[Tensor]) -> Iterator[None]:
    """Has the pipeline draw the latents, where it takes none, and its scheduler the noises."""
    remaining = iter(noises)

    def noise(shape: Any, **_: Any) -> Tensor:
        given = next(remaining, None)
        if given is None:
            raise ValueError(f"the scheduler draws more than the {len(noises)} noises that are given")
        return _doubled(_packed(pipeline, given), shape)

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
