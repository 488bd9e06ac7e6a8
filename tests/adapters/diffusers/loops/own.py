"""What a pipeline does by itself, recorded at its scheduler's steps, and a model that walks beside it."""

__all__ = ["Case", "Record", "alone", "beside", "model_of", "recorded"]

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from guided.adapters.diffusers import wrap
from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams

K = 3


@dataclass(frozen=True)
class Case:
    """A tiny pipeline with random weights.

    Attributes:
        build: Makes it.
        kind: What it is for, as "text to image".
        family: The family of models that it belongs to.
        args: Arguments of its call, besides prompts.
        guidance: A weight of guidance; None where it takes none.
        prompted: Whether it takes a prompt.
        steps: The number of steps.
        options: Options of :func:`wrap`.
    """

    build: Callable[[], Any]
    kind: str
    family: str
    args: Mapping[str, Any] = field(default_factory=dict)
    guidance: float | None = 3.0
    prompted: bool = True
    steps: int = K
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Record:
    """A run of a pipeline: latents before, and predictions at, each step; the last latents; the samples."""

    latents: list[Tensor] = field(default_factory=list)
    predictions: list[Tensor] = field(default_factory=list)
    last: Tensor | None = None
    samples: Any = None


def _weight(pipeline: Any, guidance: float | None) -> dict[str, Any]:
    if guidance is None:
        return {}
    import inspect

    known = inspect.signature(inspect.unwrap(type(pipeline).__call__)).parameters
    if "true_cfg_scale" in known:
        return {"true_cfg_scale": guidance, "negative_prompt": ""}
    return {"guidance_scale": guidance}


class _Stepped(tuple[Tensor, ...]):
    prev_sample = property(lambda self: self[0])


def recorded(case: Case, pipeline: Any, given: Mapping[int, Tensor] | None = None) -> Record:
    """The pipeline's own run for one sample; `given` are latents that replace those of its scheduler after a step."""
    record, own = Record(), type(pipeline.scheduler).step
    scheduler = pipeline.scheduler

    @functools.wraps(own)
    def step(*args: Any, **options: Any) -> Any:
        import inspect

        bound = inspect.signature(scheduler.__class__.step).bind(scheduler, *args, **options).arguments
        record.latents.append(bound["sample"].clone())
        record.predictions.append(bound["model_output"].clone())
        stepped = own(scheduler, *args, **options)
        index = len(record.latents) - 1
        if given and index in given:
            x = given[index].to(bound["sample"].dtype)
            for name in ("add_noise", "scale_noise"):  # what is kept of an image is as given, too
                setattr(scheduler, name, lambda *args, **options: x)
            return _Stepped((x, x))
        record.last = (stepped[0] if isinstance(stepped, tuple) else stepped.prev_sample).clone()
        return stepped

    step.__signature__ = inspect_signature(own)  # type: ignore[attr-defined]
    scheduler.step = step
    try:
        prompt = {"prompt": "red apple"} if case.prompted else {}
        found = pipeline(
            **prompt,
            **_weight(pipeline, case.guidance),
            **case.args,
            num_inference_steps=case.steps,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        )
    finally:
        for name in ("step", "add_noise", "scale_noise"):
            vars(scheduler).pop(name, None)
    named = [getattr(found, name) for name in ("images", "image", "frames", "videos", "audios") if hasattr(found, name)]
    record.samples = named[0] if named else found[0]
    return record


def inspect_signature(step: Any) -> Any:
    import inspect

    found = inspect.signature(step)
    return found.replace(parameters=[p for name, p in found.parameters.items() if name != "self"])


def model_of(case: Case, pipeline: Any, **options: Any) -> Diffusion:
    given = {"loop": True, "steps": case.steps, "eta": 0.0, "pipe_args": case.args, **case.options, **options}
    model = wrap(pipeline, **given)
    return prompted(model, case, 1)


def prompted(model: Diffusion, case: Case, n: int) -> Diffusion:
    if not model.prompting.conditional:
        return model
    return model.prompted(["red apple" if case.prompted else None] * n, case.guidance)


def beside(model: Diffusion, record: Record) -> list[tuple[float, float]]:
    """How far latents and predictions are from the record's, at each step and, latents only, after the last."""
    k = model.requests.first_step(model.steps)
    particles = Particles(model, record.latents[0][None].float(), k, Streams(0, range(1)))
    apart = []
    for latents, prediction in zip(record.latents, record.predictions, strict=True):
        t = torch.tensor([model.process.time(particles.k)])
        raw = model.denoiser.network(particles.x[:, 0], t, **model.requests.conditions.positive)  # type: ignore[attr-defined]
        wanted = prediction[:, : raw.shape[1]]
        apart.append((_far(particles.x[:, 0], latents), _far(raw, wanted)))
        particles = particles.propose(1)
    assert record.last is not None
    apart.append((_far(particles.x[:, 0], record.last), 0.0))
    return apart


def _far(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().max() / b.float().abs().max().clamp(min=1))


def alone(case: Case, pipeline: Any, x: Tensor) -> Tensor:
    """The pipeline's own prediction at its second step, for latents with shape `(1, *event)`."""
    return recorded(case, pipeline, {0: x}).predictions[1]
