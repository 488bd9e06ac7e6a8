r"""Shared by the benchmarks of negative checkpoints: the arms, and the file of results.

An arm is a way to draw: the model alone, classifier-free guidance (CFG) with a weight, or guidance with a negative
checkpoint (NPO) and a weight. All arms of a seed have the same requests, and request i has the same noise. Each arm and
seed is drawn once; its measures are written before the next one begins.

Over s seeds an interval is :math:`\pm t_{.975, s - 1} \, sd / \sqrt{s}` around the mean, of differences as of values.
Imported by npo.py and its parts; it does nothing by itself.
"""

import math
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from npo_cost import cost
from npo_task import Metric, Options, Task

import guided
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError
from guided.runs.describe import all_versions
from guided.runs.sample import with_negative
from guided.samplers import SVDD, Unguided
from guided.scoring.objective import resolve_reward
from guided.storage import difference, plain, read_json, write_json

PLAIN, DOUBLE, CFG, NPO = "plain", "plain, twice the rows", "CFG", "NPO"


@dataclass(frozen=True)
class Arm:
    """A way to draw."""

    method: str
    weight: float
    model: Diffusion
    sampler: Any
    guidance: float | None

    def draw(self, options: Options, task: Task, seed: int, **more: Any) -> guided.Run:
        """The n requests of a seed, or `only` some of them."""
        return guided.sample(
            self.model,
            options.svdd,
            self.sampler,
            n=options.n,
            seed=seed,
            prompt=task.prompts,
            guidance=self.guidance,
            batch_size=options.batch_size,
            **more,
        )


def arms_of(options: Options, model: Diffusion) -> list[Arm]:
    """All arms. Guidance costs two network rows for each row, plain sampling one."""
    attached = with_negative(model, options.negative)
    sampler: Any = Unguided() if options.svdd is None else SVDD(M=options.M)
    conditional = model.prompting.conditional
    arms = [Arm(PLAIN, 1.0, model, sampler, 1.0 if conditional else None)]
    if not conditional:  # of equal rows: twice the steps, or twice the candidates
        twice = model.with_steps(2 * model.steps) if options.svdd is None else model
        arms.append(Arm(DOUBLE, 1.0, twice, sampler if options.svdd is None else SVDD(M=2 * options.M), None))
    for w in options.scales:
        arms += [Arm(CFG, w, model, sampler, w)] if conditional else []
        arms.append(Arm(NPO, w, attached, sampler, w))
    return arms


class Results:
    """The file of results, with the configuration that they depend on.

    Raises:
        GuidedError: The file holds another benchmark.
    """

    def __init__(self, options: Options, task: Task, model: Diffusion, attached: Diffusion) -> None:
        self.file = options.out
        reward = None if options.svdd is None else resolve_reward(options.svdd).identity
        config = {
            "benchmark": task.name,
            "model": {"name": model.name, "identity": model.identity, "steps": model.steps, "dtype": options.dtype},
            "negative": {"name": options.negative, "identity": attached.identity},
            "n": options.n,
            "prompts": task.prompts and list(task.prompts),
            "svdd": reward and {"reward": reward, "M": options.M},
            "judge": dict(task.judge),
        }
        self.data = opened(self.file, config)
        found = self.data.setdefault("results", {"commands": [], "cells": []})
        command = shlex.join(["python", *sys.argv])
        found["commands"] = [*(c for c in found["commands"] if c != command), command]
        found |= {
            "versions": all_versions(),
            "training": cost(options.model, options.negative, options.pretrained),
            "reference": dict(task.reference),
        }

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The results of one arm and seed: method, weight, measures, scores, and cost."""
        cells: list[dict[str, Any]] = self.data["results"]["cells"]
        return cells

    def add(self, cell: dict[str, Any]) -> None:
        """Keeps a cell, and writes the file."""
        self.cells.append(cell)
        self.write()

    def write(self, **more: Any) -> None:
        """Writes the file whole, with more entries."""
        self.data["results"] |= more
        write_json(self.file, self.data)

    def has(self, arm: Arm, seed: int) -> bool:
        """Whether an arm is drawn with a seed."""
        return any((c["method"], c["weight"], c["seed"]) == (arm.method, arm.weight, seed) for c in self.cells)

    def of(self, method: str, weight: float) -> dict[int, dict[str, Any]]:
        """The cells of an arm by their seed."""
        return {c["seed"]: c for c in self.cells if (c["method"], c["weight"]) == (method, weight)}


def opened(file: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of the file, or the configuration of the results if there is no file yet.

    Raises:
        GuidedError: The file is of another benchmark.
    """
    wanted: dict[str, Any] = plain(config)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        return wanted
    found = read_json(file)
    old = {key: entry for key, entry in found.items() if key != "results"}
    if old != wanted:
        key, was, now = difference(old, wanted)
        raise GuidedError(f"{str(file)!r} holds another benchmark: {key} is {was} there and {now} here; name another")
    return found


def run(options: Options, make: Callable[[Diffusion], Task]) -> tuple[Results, Task, list[Arm]]:
    """Draws and measures the cells that the file does not hold yet.

    Args:
        options: The options of the command.
        make: Makes the task for a model.
    """
    model = guided.load(options.model, device=options.device, dtype=options.dtype, steps=options.steps)
    task, arms = make(model), arms_of(options, model)
    if options.svdd is not None:
        task = replace(task, metrics=[Metric("median reward"), *task.metrics])
    results = Results(options, task, model, arms[-1].model)
    for seed in range(options.seeds):
        for arm in arms:
            if not results.has(arm, seed):
                results.add(cell_of(arm, options, task, seed))
    return results, task, arms


@torch.no_grad()
def cell_of(arm: Arm, options: Options, task: Task, seed: int) -> dict[str, Any]:
    """Draws an arm with a seed and measures it; JSON-able."""
    drawn = arm.draw(options, task, seed)
    measures = dict(task.measure(drawn.samples))
    if options.svdd is not None:
        measures["median reward"] = statistics.median(drawn.rewards.tolist())
    scores = {name: list(map(number, values)) for name, values in task.scores(drawn.samples).items()}
    words = [f"{m.name} {measures[m.name]:.4g}" for m in task.metrics if m.shown]
    rows, seconds = drawn.stats.network_rows, drawn.stats.seconds["total"]
    print(f"{arm.method} {arm.weight:g}, seed {seed}: {', '.join(words)}; {rows:,} rows, {seconds:.0f} s", flush=True)
    return {
        "method": arm.method,
        "weight": arm.weight,
        "seed": seed,
        "network_rows": rows,
        "reward_calls": drawn.stats.reward_calls,
        "seconds": round(seconds, 2),
        "measures": {name: number(value) for name, value in measures.items()},
        "scores": scores,
    }


def number(value: float) -> float | None:
    """The number for JSON; None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of the 95 % interval by Student's t; nan for a single value."""
    from scipy.stats import t

    half = math.nan
    if len(values) > 1:
        half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values), half
