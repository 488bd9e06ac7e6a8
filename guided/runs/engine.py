"""The loop of a run: requests are drawn in batches, with a sampler and a reward. Batches are yielded as they finish."""

__all__ = ["DECODED", "Batch", "Progress", "Run", "Stats", "StepValue", "batches_of"]

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.monitor import Monitor, Progress
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import GuidedError, shown
from guided.runs.prompts import Prompts
from guided.samplers import Sampler
from guided.scoring.objective import Objective
from guided.values.posterior_mean import PosteriorMean
from guided.values.protocol import Value

#: The number of look-aheads that are decoded and scored at a time, by modality: images take memory.
DECODED = {"images": 64, "videos": 8}


@dataclass(frozen=True)
class Stats:
    """The cost of a run: rows and calls of the network, samples scored by the reward, wall-clock seconds by part."""

    network_rows: int = 0
    network_calls: int = 0
    reward_calls: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: "Stats") -> "Stats":
        parts = {*self.seconds, *other.seconds}
        return Stats(
            self.network_rows + other.network_rows,
            self.network_calls + other.network_calls,
            self.reward_calls + other.reward_calls,
            {part: self.seconds.get(part, 0.0) + other.seconds.get(part, 0.0) for part in sorted(parts)},
        )


@dataclass(frozen=True)
class StepValue:
    """Values at one step: the mean over all candidates, and the mean over requests of each one's best."""

    step: int
    mean: float
    best: float


@dataclass(frozen=True)
class Batch:
    """Finished requests that were drawn together."""

    requests: list[int]
    samples: list[Any]
    rewards: list[float]
    columns: dict[str, list[float]]
    stats: Stats
    path: list[StepValue]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        samples: The `n` decoded samples.
        rewards: Their rewards, with shape `(n,)`; nan if there was no reward.
        stats: The cost.
        columns: Every term of the reward, raw and transformed, `n` numbers each. For a model with a cheaper decoder for
            look-aheads also "preview": the reward of the samples as that decoder shows them.
        path: The values at the steps of all batches, batch after batch.
        config: The configuration in `run.json`, for a run that was read from a folder; empty otherwise.
    """

    samples: Sequence[Any]
    rewards: Tensor
    stats: Stats
    columns: dict[str, list[float]]
    path: list[StepValue]
    config: Mapping[str, Any] = field(default_factory=dict)


class _Recorded:
    """A value that records the values it computes."""

    def looked_ahead(self, model: Diffusion) -> bool:
        """Whether it has evaluated decoded look-aheads."""
        return isinstance(self.value, PosteriorMean) and any(seen.step < model.steps for seen in self.path)

    def __init__(self, value: Value) -> None:
        self.value = value
        self.best: float | None = None
        self.path: list[StepValue] = []

    def __call__(self, particles: Particles, alpha: float) -> Tensor:
        v = self.value(particles, alpha)
        mean, best = (x[x.isfinite()].mean().item() for x in (v, v.amax(1)))
        self.path.append(StepValue(particles.k, mean, best))
        top = v.max().item()
        self.best = top if self.best is None else max(self.best, top)
        return v


def batches_of(
    model: Diffusion,
    wanted: Prompts,
    objective: Objective | None,
    sampler: Sampler,
    value: Value | None,
    blocks: list[list[int]],
    seed: int,
    progress: Callable[[Progress], None] | None,
) -> Iterator[Batch]:
    """Draws blocks of requests, one after the other."""
    n, done, start = sum(map(len, blocks)), 0, time.perf_counter()
    recorded = _Recorded(value) if value is not None else None

    def on_step(k: int) -> None:
        if progress is not None:
            mean = recorded.path[-1].mean if recorded and recorded.path else None
            best = recorded.best if recorded else None
            seconds = time.perf_counter() - start
            progress(Progress("samples", done, n, k, model.steps, mean, best, seconds=seconds))

    for block in blocks:
        if recorded is not None:
            recorded.path = []
        part = wanted.block(model, block).with_requests(monitor=Monitor(on_step=on_step))
        yield _draw(part, objective, sampler, recorded, Streams(seed, block, model.device), block)
        done += len(block)


def _draw(
    model: Diffusion,
    objective: Objective | None,
    sampler: Sampler,
    value: _Recorded | None,
    streams: Streams,
    block: list[int],
) -> Batch:
    """One batch. The reward's memo is cleared first, so that the cost does not depend on earlier batches."""
    start, calls = time.perf_counter(), 0
    if objective is not None:
        objective.clear()
        calls = objective.calls
    with torch.no_grad():
        returned = sampler(model, value, streams)  # type: ignore[arg-type]  # only Unguided gets no value
    particles = _finished(returned, type(sampler).__name__, len(block), model.steps)
    views = model.views(particles.x[:, 0])
    with torch.no_grad():
        samples = views["samples"]
        views.make(objective.takes if objective is not None else ())
    columns: dict[str, list[float]] = {}
    if objective is not None:
        with model.monitor.time("reward"):
            columns = objective.columns(views, model.prompts or None)
        if model.codec.preview is not None and value is not None and value.looked_ahead(model):
            columns["preview"] = _previewed(model, objective, views.rows)
        calls = objective.calls - calls
    seconds = {**model.monitor.seconds, "total": time.perf_counter() - start}
    stats = Stats(model.monitor.network_rows, model.monitor.network_calls, calls, seconds)
    rewards = columns.get("reward", [math.nan] * len(block))
    return Batch(block, list(samples), rewards, columns, stats, value.path if value else [])


def _finished(particles: object, name: str, n: int, steps: int) -> Particles:
    """What a sampler returned, checked to be one particle for each of `n` requests, at the last step."""
    if not isinstance(particles, Particles):
        raise GuidedError(
            f"{name} returned {shown(particles)}; it must return Particles, one for each of the {n} requests"
        )
    if not particles.done or particles.x.shape[:2] != (n, 1):
        where = f"{tuple(particles.x.shape[:2])} particles at step {particles.k} of {steps}"
        raise GuidedError(f"{name} returned {where}; it must be ({n}, 1) at the last one")
    return particles


def _previewed(model: Diffusion, objective: Objective, rows: Tensor) -> list[float]:
    """The rewards of the samples as the decoder of look-aheads shows them, for comparison."""
    views = model.views(rows, preview=True)
    with torch.no_grad():
        views.make(objective.takes)
    with model.monitor.time("reward"):
        return [float(r) for r in objective(views, model.prompts or None)]
