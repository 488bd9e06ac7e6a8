"""The adapter beside diffusers: the same pipeline twice, the same numbers drawn."""

__all__ = [
    "K",
    "compare",
    "expected",
    "model_of",
    "pipeline_of",
    "posed",
    "prompts_of",
    "rescheduled",
    "solved",
    "wrapped",
]

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import diffusers
import torch
from torch import Tensor

from guided.adapters.diffusers import wrap
from guided.core.diffusion import Diffusion
from guided.core.random import Streams
from tests.adapters.diffusers.pipelines.families import FAMILIES, build
from tests.adapters.diffusers.pipelines.reference import Trajectory, ancestral_flow, ddim, reference

K = 4
PROMPTS = ("red apple", "cat", "blue dog")
CLASSES = ("red", "cat", "dog")
SOLVERS = {
    "sdxl": "euler",
    "pixart": "dpm",
    "pixart-alpha": "dpm",
    "sd3": "flow",
    "flux": "flow",
    "flux-distilled": "flow",
}


def prompts_of(name: str, B: int) -> Sequence[str]:
    return (CLASSES if name == "dit" else PROMPTS)[:B]


def solved(pipeline: Any, solver: str, eta: float) -> Any:
    """With a scheduler of diffusers whose steps are those of the process."""
    config = pipeline.scheduler.config
    if solver == "euler":
        kind = diffusers.EulerAncestralDiscreteScheduler if eta else diffusers.EulerDiscreteScheduler
        pipeline.scheduler = kind.from_config(config)
    elif solver == "dpm":
        changes = {"solver_order": 1, "algorithm_type": "sde-dpmsolver++" if eta else "dpmsolver++"}
        pipeline.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(config, **changes)
    elif solver == "flow":
        return ancestral_flow(pipeline) if eta else pipeline
    elif not isinstance(pipeline.scheduler, diffusers.DDPMScheduler if eta else diffusers.CogVideoXDDIMScheduler):
        return ddim(pipeline)  # but for those two, which are ancestral and deterministic as they are
    return pipeline


def wrapped(pipeline: Any, name: str, **options: Any) -> Diffusion:
    if name.startswith("flux") or name == "pixart-alpha":  # their own sides are 16 times this
        options = {"height": 16, "width": 16, **options}
    return wrap(pipeline, steps=K, **options)


@functools.cache
def model_of(name: str, eta: float) -> Diffusion:
    return wrapped(build(name), name, eta=eta)


@functools.cache
def pipeline_of(name: str, eta: float) -> Any:
    return solved(build(name), SOLVERS.get(name, "ddim"), eta)


def posed(model: Diffusion, name: str, B: int, guidance: float | None, **more: Any) -> Diffusion:
    """For B requests; a guidance of None is none."""
    return model.prompted(prompts_of(name, B), guidance or 1.0, **more) if FAMILIES[name].guided else model


def walk(model: Diffusion, B: int) -> list[Tensor]:
    """The particles before, between and after the steps, with shape `(B, *event)`, one candidate each."""
    particles = model.start(Streams(0, range(B)))
    xs = [particles.x[:, 0]]
    while not particles.done:
        particles = particles.propose(1)
        xs.append(particles.x[:, 0])
    return xs


def numbers(process: Any, B: int) -> tuple[Tensor, list[Tensor]]:
    """What a walk draws, in its order; zeros for a step that draws nothing."""
    streams = Streams(0, range(B))
    first = streams.normal(1, *process.event)[:, 0]
    nothing = torch.zeros_like(first)
    steps = range(process.steps)
    return first, [streams.normal(1, *process.event)[:, 0] if process.stochastic(k) else nothing for k in steps]


def expected(model: Diffusion, pipeline: Any, name: str, B: int, guidance: float | None, **more: Any) -> Trajectory:
    """What diffusers does with the numbers that the model draws, in the model's variables."""
    process: Any = model.process
    first, noises = numbers(process, B)
    scheduler, unit = pipeline.scheduler, [1.0] * (process.steps + 1)
    if type(scheduler).__name__.startswith("Euler"):  # its variables grow with the noise
        scheduler.set_timesteps(process.steps)
        unit = [(1 + float(sigma) ** 2) ** 0.5 for sigma in scheduler.sigmas]
        first = first * unit[0] / float(scheduler.init_noise_sigma)  # which is a little less than unit[0] on some grids
    first = first * (process.alphas[0] ** 2 + process.sigmas[0] ** 2) ** 0.5  # 1, or a little less in some flows
    run = reference(pipeline, prompts_of(name, B), first, process.steps, guidance, process.eta, noises, **more)
    return replace(run, start=run.start / unit[0], steps=[x / s for x, s in zip(run.steps, unit[1:], strict=True)])


def compare(model: Diffusion, run: Trajectory) -> None:
    for k, (ours, theirs) in enumerate(zip(walk(model, len(run.start)), [run.start, *run.steps], strict=True)):
        error, scale = float((ours - theirs).abs().max()), max(1.0, float(theirs.std()))
        assert error <= 1e-4 * scale, f"after {k} steps the largest difference is {error:.1e}, the spread {scale:.1f}"


def rescheduled(name: str, changes: dict[str, Any], kind: Any = None) -> Any:
    pipeline = build(name)
    kind = kind or type(pipeline.scheduler)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **changes)
    return pipeline
