"""Runs: many requests, in batches, with a reward and a sampler. Batches are handed out as they finish."""

__all__ = ["Batch", "Progress", "Run", "Stats", "StepValue", "against", "sample", "stream"]

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guided.batching import Evaluator
from guided.errors import GuidedError, check_whole
from guided.learned import LearnedValue
from guided.model import Diffusion, Particles
from guided.models import check_options, load, split_options
from guided.monitor import Monitor
from guided.objective import Objective, resolve_reward
from guided.prompts import Prompts
from guided.samplers import Sampler, Unguided, resolve_sampler
from guided.streams import Streams
from guided.value import PosteriorMean, Value

#: Samples that a reward of look-aheads is given at a time, by their kind: pictures take memory.
DECODED = {"images": 64, "videos": 8}


@dataclass(frozen=True)
class Stats:
    """What a run cost: rows and calls of the network, samples scored by the reward, wall-clock seconds by part."""

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
class Progress:
    """How far a run is: requests finished, the step of the batch that is being drawn, the mean value at its last
    look-ahead, the best value that any candidate of the run has had, and seconds since the start.
    """

    request_done: int
    n: int
    step: int
    steps: int
    mean: float | None
    best: float | None
    seconds: float


@dataclass(frozen=True)
class Batch:
    """Requests that were drawn together and are finished."""

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
        stats: What it cost.
        columns: Every term of the reward, raw and transformed, `n` numbers each; and, for a model whose look-aheads
            are decoded in a cheaper way, "preview": the reward of the samples as those show them.
        path: The values at the steps of every batch, one after the other.
    """

    samples: list[Any]
    rewards: Tensor
    stats: Stats
    columns: dict[str, list[float]]
    path: list[StepValue]


class _Watched:
    """A value that tells what it saw."""

    def looked_ahead(self, model: Diffusion) -> bool:
        """Whether it was asked for look-aheads, that are decoded."""
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


def sample(model: Any, reward: Any = None, sampler: Any = "svdd", n: int = 1, seed: int = 0, **options: Any) -> Run:
    """Draws `n` samples of a pretrained model, guided by a reward.

    The arguments are those of :func:`stream`; sample `i` depends on the seed and on `i`, not on `n`.

    Raises:
        ValueError: An argument is not what is accepted; the message says what is.
    """
    batches = list(stream(model, reward, sampler, n, seed, **options))
    return Run(
        samples=[sample for batch in batches for sample in batch.samples],
        rewards=torch.tensor([r for batch in batches for r in batch.rewards], dtype=torch.float64),
        stats=sum((batch.stats for batch in batches), Stats()),
        columns={name: [v for batch in batches for v in batch.columns[name]] for name in batches[0].columns},
        path=[value for batch in batches for value in batch.path],
    )


def stream(
    model: Any,
    reward: Any = None,
    sampler: "str | Mapping[str, Any] | Sampler" = "svdd",
    n: int = 1,
    seed: int = 0,
    *,
    prompt: str | Sequence[str] | None = None,
    negative_prompt: str | Sequence[str] | None = None,
    guidance: float | None = None,
    rescale: float = 0.0,
    negative: str | Path | None = None,
    image: Any = None,
    strength: float | None = None,
    mask: Any = None,
    steps: int | None = None,
    batch_size: int = 64,
    only: Sequence[int] | None = None,
    value: Value | str | Path | None = None,
    draws: int = 1,
    aggregate: str = "mean",
    on_error: str = "stop",
    time_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Batch]:
    """Draws samples and hands them out batch by batch, each as it finishes.

    Arguments:
        model: A model, the name or folder of one, or a diffusers pipeline.
        reward: What :func:`guided.objective.resolve_reward` takes: a name, a function, a file, a program, or a mapping
            of these to weights. None only for the unguided sampler.
        sampler: A sampler, its name, or a dictionary with its name and fields.
        n: The number of samples.
        seed: The seed; sample `i` depends on `(seed, i)` only, as far as the network's rounding does not depend on
            how many rows it is given at a time.
        prompt: For a conditional model: one prompt, or one for each sample.
        negative_prompt: What guidance leads away from, one or one for each sample; None for the unconditional model.
        guidance: The weight of classifier-free guidance; None for the model's own, 1 for none.
        rescale: The share of guidance rescale (Lin et al., 2023), in [0, 1].
        negative: A negative checkpoint for the unconditional side of guidance, as :func:`guided.npo.attach` takes it;
            its options may follow, as in `"folder?alpha=0.5&beta=0.3"`.
        image: For a model of images: what all samples start from, an image or its file.
        strength: With an image, the share of the steps that are taken, in (0, 1]; None for 0.8, with a mask for all.
        mask: With an image, where it may change: an image or its file, white where it may and black where it is kept.
        steps: The number of reverse steps `K`; None for the model's own.
        batch_size: The number of requests `B` that are drawn together.
        only: The requests to draw; None for all of `0..n-1`. Those of one block of `batch_size` go together.
        value: What the sampler selects by; None for the reward of the look-ahead (SVDD-PM). A learned one
            (:func:`guided.fit_value`), or its folder, must be one of this model, prompt, guidance and reward (SVDD-MC).
        draws: The number of clean draws of the look-ahead, for a discrete model.
        aggregate: How several rewards become one, "mean" or "product".
        on_error: What a failing reward does, "stop" or "worst".
        time_limit: The seconds that a call of the reward may take.
        progress: Called at every step.

    Raises:
        ValueError: An argument is not what is accepted; the message says what is.
    """
    for name, number in (("n", n), ("batch_size", batch_size)):
        check_whole(name, number)
    requests = list(range(n)) if only is None else list(only)
    strange = [i for i in requests if not isinstance(i, int) or not 0 <= i < n]
    if strange or not requests:
        what = f"request {strange[0]!r} is not" if strange else "only is empty: name some requests"
        raise GuidedError(f"{what} among the {n} of this run, 0 to {n - 1}")
    Streams(seed, [])  # a wrong seed is told before anything is loaded
    strategy = resolve_sampler(sampler)
    if reward is None and not isinstance(strategy, Unguided):
        raise GuidedError(f"sampler {type(strategy).__name__} needs a reward; only unguided does without")
    model = model if isinstance(model, Diffusion) else load(model)
    model = model if steps is None else model.with_steps(steps)
    model = against(model, negative)
    model = _started(model, image, strength, mask)
    wanted = Prompts.of(model, n, prompt, negative_prompt, guidance, rescale)
    objective = None
    if reward is not None:
        objective = resolve_reward(reward, aggregate=aggregate, on_error=on_error, time_limit=time_limit)
        objective.check(model.kind)
        whole = wanted.checked(model)
        decoded = Evaluator(DECODED.get(model.kind))
        if value is None:
            value = PosteriorMean(objective, draws, decoded)
        else:
            value = _learned(value, whole, objective, strategy, plain=wanted.plain and model.origin is None)
    else:
        wanted.checked(model)
        value = None if isinstance(value, str | Path) else value  # the unguided sampler asks no value
    blocks = [list(block) for _, block in groupby(requests, key=lambda i: i // batch_size)]
    return _batches(model, wanted, objective, strategy, value, blocks, seed, progress)


def _learned(value: Value | str | Path, model: Diffusion, objective: Objective, sampler: Sampler, plain: bool) -> Value:
    """A learned value, or that of a folder, for this run; another value as it is."""
    if isinstance(value, str | Path):
        from guided.fitting import load_value  # which imports this module

        value = load_value(value)
    if isinstance(value, LearnedValue):
        if not plain:
            raise GuidedError(
                "a learned value was fitted to runs from noise, without negative prompts and guidance rescale; "
                "leave out image, negative_prompt and rescale, or the value"
            )
        return value.bind(model, objective, getattr(sampler, "alpha", ()))
    return value


def against(model: Diffusion, negative: str | Path | None) -> Diffusion:
    """The model with a negative checkpoint, if one is named; options may follow the name.

    Raises:
        ValueError: There is no such checkpoint or option, or it is of another base.
    """
    if negative is None:
        return model
    from guided.npo import attach

    place, options = split_options(negative)
    check_options(attach, options, f"negative checkpoint {place!r}")
    return attach(model, place, **options)


def _started(model: Diffusion, image: Any, strength: float | None, mask: Any) -> Diffusion:
    """The model that starts from an image, if there is one."""
    if image is None:
        for name, given in (("strength", strength), ("mask", mask)):
            if given is not None:
                raise GuidedError(f"{name} is for runs that start from an image; give the image too")
        return model
    edited = model.edited(image, strength, mask)
    if edited.origin is not None:
        edited.origin.begin(edited.steps)
    return edited


def _batches(
    model: Diffusion,
    wanted: Prompts,
    objective: Objective | None,
    sampler: Sampler,
    value: Value | None,
    blocks: list[list[int]],
    seed: int,
    progress: Callable[[Progress], None] | None,
) -> Iterator[Batch]:
    n, done, start = sum(map(len, blocks)), 0, time.perf_counter()
    watched = _Watched(value) if value is not None else None

    def on_step(k: int) -> None:
        if progress is not None:
            mean = watched.path[-1].mean if watched and watched.path else None
            best = watched.best if watched else None
            progress(Progress(done, n, k, model.steps, mean, best, time.perf_counter() - start))

    for block in blocks:
        if watched is not None:
            watched.path = []
        part = replace(wanted.block(model, block), monitor=Monitor(on_step=on_step))
        yield _draw(part, objective, sampler, watched, Streams(seed, block, model.device), block)
        done += len(block)


def _draw(
    model: Diffusion,
    objective: Objective | None,
    sampler: Sampler,
    value: _Watched | None,
    streams: Streams,
    block: list[int],
) -> Batch:
    """One batch. The memo of the reward ends with it, so that what it cost does not hang on earlier batches."""
    start, calls = time.perf_counter(), 0
    if objective is not None:
        objective.clear()
        calls = objective.calls
    particles = sampler(model, value, streams)  # type: ignore[arg-type]  # only Unguided gets no value
    if not particles.done or particles.x.shape[:2] != (len(block), 1):
        where = f"{tuple(particles.x.shape[:2])} particles at step {particles.k} of {model.steps}"
        raise GuidedError(f"{type(sampler).__name__} returned {where}; it must be ({len(block)}, 1) at the last one")
    rows = particles.x[:, 0]
    with model.monitor.time("decode"):
        samples = model.decode(rows)
    columns: dict[str, list[float]] = {}
    if objective is not None:
        with model.monitor.time("reward"):
            columns = objective.columns(samples, model.prompts or None)
        if model.preview is not None and value is not None and value.looked_ahead(model):
            columns["preview"] = _previewed(model, objective, rows)
        calls = objective.calls - calls
    seconds = {**model.monitor.seconds, "total": time.perf_counter() - start}
    stats = Stats(model.monitor.network_rows, model.monitor.network_calls, calls, seconds)
    rewards = columns.get("reward", [math.nan] * len(block))
    return Batch(block, list(samples), rewards, columns, stats, value.path if value else [])


def _previewed(model: Diffusion, objective: Objective, rows: Tensor) -> list[float]:
    """The rewards of the samples as the look-ahead's decoder shows them, to compare."""
    assert model.preview is not None
    with model.monitor.time("decode"):
        samples = model.preview(rows)
    with model.monitor.time("reward"):
        return [float(r) for r in objective(samples, model.prompts or None)]
