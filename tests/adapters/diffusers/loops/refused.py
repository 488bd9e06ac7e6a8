"""Tiny pipelines that cannot be models by their own loop."""

__all__ = ["REFUSED", "reason_of"]

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import pytest

from guided.adapters.diffusers import wrap
from guided.errors import GuidedError
from tests.adapters.diffusers.loops.cases import CASES, OLD, kin, sd
from tests.adapters.diffusers.pipelines import build

#: How each is built, its arguments, and the number of steps.
REFUSED: dict[str, tuple[Callable[[], Any], Mapping[str, Any], int]] = {}


def reason_of(name: str) -> str:
    """Why a pipeline cannot be a model."""
    make, args, steps = REFUSED[name]
    with pytest.raises(GuidedError) as found:
        wrap(make(), loop=True, steps=steps, pipe_args=args)
    return str(found.value)


def _sprint() -> Any:
    base = CASES["sana"].build()
    return kin(diffusers.SanaSprintPipeline, base, scheduler=diffusers.SCMScheduler())


def _heun() -> Any:
    pipeline = sd()
    pipeline.scheduler = diffusers.HeunDiscreteScheduler.from_config(pipeline.scheduler.config)
    return pipeline


def _unconditional(kind: Any, scheduler: Any) -> Callable[[], Any]:
    return lambda: kind(unet=build("ddpm").unet, scheduler=scheduler)


REFUSED["dit"] = (lambda: build("dit"), {"class_labels": [1]}, 3)
REFUSED["panorama"] = (
    lambda: kin(diffusers.StableDiffusionPanoramaPipeline, sd(), **OLD),
    {"height": 16, "width": 32},
    3,
)
REFUSED["semantic"] = (
    lambda: kin(diffusers.SemanticStableDiffusionPipeline, sd(), **OLD),
    {"editing_prompt": ["red"], "edit_warmup_steps": 2},
    5,
)
REFUSED["heun"] = (_heun, {}, 3)
REFUSED["sana-sprint"] = (_sprint, CASES["sana"].args, 2)
REFUSED["consistency"] = (
    _unconditional(diffusers.ConsistencyModelPipeline, diffusers.CMStochasticIterativeScheduler()),
    {},
    3,
)
REFUSED["karras-ve"] = (_unconditional(diffusers.KarrasVePipeline, diffusers.KarrasVeScheduler()), {}, 3)
REFUSED["score-sde-ve"] = (_unconditional(diffusers.ScoreSdeVePipeline, diffusers.ScoreSdeVeScheduler()), {}, 3)
