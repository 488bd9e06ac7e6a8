"""The loop of a run: requests are drawn in batches, with a sampler and a reward. Batches are yielded as they finish."""

__all__ = ["DECODED", "Batch", "Progress", "Run", "Stats", "StepValue", "batches_of"]

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guided.core.budget import Budget
from guided.core.diffusion import Diffusion
from guided.core.monitor import Monitor, Progress
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.core.spending import Curve, Spending
from guided.errors import GuidedError, shown
from guided.runs.preferences import Preferences
from guided.runs.prompts import Prompts
from guided.runs.turns import Step, in_turns
from guided.samplers import Sampler
from guided.scoring.objective import Objective
from guided.scoring.rows import takes_rows
from guided.values.learned import LearnedValue
from guided.values.noting import Noting
from guided.values.posterior_mean import PosteriorMean
from guided.values.protocol import Value

#: The number of look-aheads that are decoded and scored at a time, by modality: images and sounds take memory.
DECODED = {"images": 64, "videos": 8, "audio": 8}


@dataclass(frozen=True)
class Stats:
    """The cost of a run: rows and calls of the network, samples that were scored, wall-clock seconds by part.

    `cached` of the `reward_calls` were not made: those scores were in the cache. Without it, there would be as many.
    `stopped` is the number of samples whose budget kept their sampler from something.
    """

    network_rows: int = 0
    network_calls: int = 0
    reward_calls: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    cached: int = 0
    stopped: int = 0

    def __add__(self, other: "Stats") -> "Stats":
        parts = {*self.seconds, *other.seconds}
        return Stats(
            self.network_rows + other.network_rows,
            self.network_calls + other.network_calls,
            self.reward_calls + other.reward_calls,
            {part: self.seconds.get(part, 0.0) + other.seconds.get(part, 0.0) for part in sorted(parts)},
            self.cached + other.cached,
            self.stopped + other.stopped,
        )


@dataclass(frozen=True)
class StepValue:
    """Values at one step: the mean over all candidates, and the mean over requests of each one's best."""

    step: int
    mean: float
    best: float


@dataclass(frozen=True)
class Batch:
    """Finished requests that were drawn together.

    `first_call` has, for each sample, the number of the request's reward calls when it was first scored, itself
    included; `curve` what had been found after how many calls.
    """

    requests: list[int]
    samples: Sequence[Any]
    rewards: list[float]
    columns: dict[str, list[float]]
    stats: Stats
    path: list[StepValue]
    first_call: list[int] = field(default_factory=list)
    curve: list[Curve] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        samples: The `n` decoded samples.
        rewards: Their rewards, with shape `(n,)`; nan if there was no reward.
        stats: The cost.
        columns: Every term of the reward, raw and transformed, `n` numbers each, and what the model itself measures of
            its samples. For a model with a cheaper decoder for look-aheads also "preview": the reward of the samples as
            that decoder shows them.
        path: The values at the steps of all batches, batch after batch.
        config: The configuration in `run.json`, for a run that was read from a folder; empty otherwise.
        first_call: For each sample, the call of its request's reward at which it was first scored, from 1; empty if
            there was no reward.
    """

    samples: Sequence[Any]
    rewards: Tensor
    stats: Stats
    columns: dict[str, list[float]]
    path: list[StepValue]
    config: Mapping[str, Any] = field(default_factory=dict)
    first_call: list[int] = field(default_factory=list)


class _Recorded(Noting):
    """A value that records the values it computes."""

    def looked_ahead(self, model: Diffusion) -> bool:
        """Whether it has evaluated decoded look-aheads."""
        return isinstance(self.value, PosteriorMean) and any(seen.step < model.steps for seen in self.path)

    def __init__(self, value: Value) -> None:
        self.value = value
        self.best: float | None = None
        self.path: list[StepValue] = []

    def note(self, particles: Particles, v: Tensor) -> None:
        mean, best = (x[x.isfinite()].mean().item() for x in (v, v.amax(1)))
        self.path.append(StepValue(particles.k, mean, best))
        top = v.max().item()
        self.best = top if self.best is None else max(self.best, top)


def batches_of(
    model: Diffusion,
    wanted: Prompts,
    objective: Objective | None,
    sampler: Sampler,
    value: Value | None,
    blocks: list[list[int]],
    seed: int,
    progress: Callable[[Progress], None] | None,
    preferences: Preferences | None = None,
    budget: Budget | None = None,
) -> Generator[Batch, None, None]:
    """Draws blocks of requests, one after the other; with workers two at a time, which take turns."""
    drawing = _Drawing(model, wanted, objective, sampler, value, seed, preferences, budget or Budget())
    shown = _Shown(progress, sum(map(len, blocks)), model.steps)
    if len(blocks) > 1 and drawing.waits:
        jobs = [partial(drawing.draw, block) for block in blocks]
        batches = _timed(in_turns(jobs, shown.step, drawing.cancel, model.device))
    else:
        batches = (drawing.draw(block, shown.step) for block in blocks)
    with closing(batches):
        for batch in batches:
            yield batch
            shown.done += len(batch.requests)


def _timed(batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
    """Batches of which two were drawn at a time; the total seconds of each are those since the one before."""
    start = time.perf_counter()
    with closing(batches):
        for batch in batches:
            seconds = {**batch.stats.seconds, "total": time.perf_counter() - start}
            yield replace(batch, stats=replace(batch.stats, seconds=seconds))
            start = time.perf_counter()


@dataclass
class _Shown:
    """The progress of a run, from the steps of its blocks."""

    progress: Callable[[Progress], None] | None
    n: int
    steps: int
    done: int = 0
    best: float | None = None
    start: float = field(default_factory=time.perf_counter)

    def step(self, k: int, mean: float | None, best: float | None) -> None:
        """A block is at step `k`; the mean of its last values, and its best so far."""
        self.best = max((known for known in (self.best, best) if known is not None), default=None)
        if self.progress is not None:
            seconds = time.perf_counter() - self.start
            self.progress(Progress("samples", self.done, self.n, k, self.steps, mean, self.best, seconds=seconds))


@dataclass(frozen=True)
class _Drawing:
    """What blocks of requests are drawn with."""

    model: Diffusion
    wanted: Prompts
    objective: Objective | None
    sampler: Sampler
    value: Value | None
    seed: int
    preferences: Preferences | None = None
    budget: Budget = field(default_factory=Budget)

    @property
    def waits(self) -> bool:
        """Whether there is something to do while workers score: no batch needs another, and the value is one of ours,
        which may be shared.
        """
        ours = self.value is None or isinstance(self.value, PosteriorMean | LearnedValue)
        apart = self.preferences is None or not self.preferences.adaptive
        return ours and apart and self.objective is not None and self.objective.spread

    def cancel(self) -> None:
        """Ends scoring that is under way: it is not wanted any more."""
        if self.objective is not None:
            self.objective.cancel()

    def draw(self, block: list[int], step: Step) -> Batch:
        """One batch. Its cost does not depend on other batches: it has a memo of scores and counters of its own."""
        objective, value = self._session()
        recorded = _Recorded(value) if value is not None else None

        def on_step(k: int) -> None:
            step(k, recorded.path[-1].mean if recorded and recorded.path else None, recorded and recorded.best)

        part = self.wanted.block(self.model, block)
        part = part.with_requests(monitor=Monitor(on_step=on_step), spending=Spending(len(block), self.budget))
        if self.preferences is not None:
            part = part.with_requests(weights=self.preferences.of(block))
        batch = _draw(part, objective, self.sampler, recorded, Streams(self.seed, block, part.device), block)
        if objective is not None and self.objective is not None and objective is not self.objective:
            self.objective.add(objective)
        return batch

    def _session(self) -> tuple[Objective | None, Value | None]:
        """The objective and the value of one batch."""
        objective, value = self.objective, self.value
        if objective is None:
            return None, value
        if value is None:
            return objective.session(), None
        if isinstance(value, PosteriorMean | LearnedValue):
            own = objective.session()
            return own, replace(value, reward=own) if value.reward is objective else value
        objective.clear()  # a value of the user's may hold it
        return objective, value


def _draw(
    model: Diffusion,
    objective: Objective | None,
    sampler: Sampler,
    value: _Recorded | None,
    streams: Streams,
    block: list[int],
) -> Batch:
    start, before = time.perf_counter(), objective.counts if objective is not None else (0, 0)
    with torch.no_grad():
        returned = sampler(model, value, streams)  # type: ignore[arg-type]  # only Unguided gets no value
    particles = _finished(returned, type(sampler).__name__, len(block), model.steps)
    views = model.views(particles.x[:, 0])
    with torch.no_grad():
        samples = views["samples"]
        views.make(objective.takes if objective is not None else ())
    columns: dict[str, list[float]] = {}
    found: list[int] = []
    calls = cached = 0
    spending = model.requests.spending or Spending(len(block))
    if objective is not None:
        with model.monitor.time("reward"):
            columns = objective.columns(views, model.prompts or None, _weights(model))
        found = spending.found(views.keys(takes_rows(objective.takes, views.codec, preview=False)), columns["reward"])
        if model.codec.preview is not None and value is not None and value.looked_ahead(model):
            columns["preview"] = _previewed(model, objective, views.rows)
        calls, cached = (after - count for after, count in zip(objective.counts, before, strict=True))
    if model.codec.measures is not None:
        columns = columns | model.codec.measures(views.rows)
    seconds = {**model.monitor.seconds, "total": time.perf_counter() - start}
    stats = Stats(model.monitor.network_rows, model.monitor.network_calls, calls, seconds, cached, spending.stopped)
    rewards = columns.get("reward", [math.nan] * len(block))
    path = value.path if value else []
    return Batch(block, list(samples), rewards, columns, stats, path, found, spending.curve())


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
        return objective.columns(views, model.prompts or None, _weights(model))["reward"]


def _weights(model: Diffusion) -> NDArray[np.float64] | None:
    """The weights of the requests, with shape `(T, n)`; None where all have the same."""
    return None if model.requests.weights is None else model.requests.weights.T.numpy()
