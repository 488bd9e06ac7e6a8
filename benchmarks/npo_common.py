r"""What the benchmarks of negative checkpoints share: the arms, the file of results, the table.

An arm is a way to draw: the model alone, classifier-free guidance (CFG), or guidance against a negative checkpoint (NPO)
with a weight. Of a seed all arms have the same requests, and request i the same noise. Each arm and seed is drawn once;
its measures are written before the next one begins.

Over s seeds an interval is :math:`\pm t_{.975, s - 1} \, sd / \sqrt{s}` around the mean, of differences as of values.
Imported by npo.py and its parts; it does nothing by itself.
"""

import math
import re
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import guided
from guided.checkpoints import FOLDER, read_config
from guided.cli.jobs import versions
from guided.errors import GuidedError
from guided.fitting.folder import claim, write_json
from guided.model import Diffusion
from guided.models import split_options
from guided.npo.stored import NEGATIVES
from guided.objective import resolve_reward
from guided.runs import against
from guided.samplers import SVDD, Unguided

PLAIN, DOUBLE, CFG, NPO = "plain", "plain, twice the rows", "CFG", "NPO"


@dataclass(frozen=True)
class Metric:
    """One measure of a set of samples.

    Arguments:
        name: Its name.
        best: Where it is best: inf, -inf, or a number that real data have.
        shown: Whether it is a column of the table of all arms.
    """

    name: str
    best: float = math.inf
    shown: bool = True

    def badness(self, value: float) -> float:
        """The less, the better."""
        return abs(value - self.best) if math.isfinite(self.best) else -math.copysign(value, self.best * value)


@dataclass(frozen=True)
class Task:
    """What is drawn and how it is judged.

    Arguments:
        name: The benchmark.
        metrics: The measures.
        measure: Maps n samples to their measures, by name.
        prompts: One for each of the n requests; None for an unconditional model.
        scores: Maps n samples to n numbers each, by the name of a judge; higher is better.
        judge: What else decides the measures, JSON-able.
        reference: What the measures are of real data, where that is known.
    """

    name: str
    metrics: Sequence[Metric]
    measure: Callable[[list[Any]], Mapping[str, float]]
    prompts: Sequence[str] | None = None
    scores: Callable[[list[Any]], Mapping[str, Sequence[float]]] = lambda samples: {}
    judge: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Raises:
        GuidedError: A number is out of range.
    """

    model: str
    negative: str
    weights: str
    n: int
    seeds: int
    out: Path
    steps: int | None = None
    svdd: str | None = None
    M: int = 10
    pretrained: int | None = None
    batch_size: int = 64
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, number in (("--n", self.n), ("--seeds", self.seeds), ("-M", self.M)):
            if number < 1:
                raise GuidedError(f"{name} is {number}; it must be at least 1")
        if self.out.is_dir():
            raise GuidedError(f"--out {str(self.out)!r} is a folder; name a file, as in runs/npo.json")
        if any(not math.isfinite(w) or w == 1 for w in self.scales):
            raise GuidedError(f"--weights is {self.weights!r}; they are finite numbers, and 1 is no guidance at all")

    @property
    def scales(self) -> list[float]:
        """The guidance weights."""
        try:
            return [float(w) for w in self.weights.split(",")]
        except ValueError as error:
            raise GuidedError(f"--weights is {self.weights!r}; it must be numbers with commas") from error


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
    """All arms. A row of guidance costs two of the network, of plain sampling one."""
    attached = against(model, options.negative)
    sampler: Any = Unguided() if options.svdd is None else SVDD(M=options.M)
    conditional = model.condition is not None
    arms = [Arm(PLAIN, 1.0, model, sampler, 1.0 if conditional else None)]
    if not conditional:  # of equal rows: twice the steps, or twice the candidates
        twice = model.with_steps(2 * model.steps) if options.svdd is None else model
        arms.append(Arm(DOUBLE, 1.0, twice, sampler if options.svdd is None else SVDD(M=2 * options.M), None))
    for w in options.scales:
        arms += [Arm(CFG, w, model, sampler, w)] if conditional else []
        arms.append(Arm(NPO, w, attached, sampler, w))
    return arms


class Results:
    """The file of results, with what decides them.

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
        self.data = claim(self.file.parent, self.file.name, config, "another benchmark")
        metrics = self.data.setdefault("metrics", {"commands": [], "cells": []})
        command = shlex.join(["python", *sys.argv])
        metrics["commands"] = [*(c for c in metrics["commands"] if c != command), command]
        metrics |= {"versions": versions(), "training": cost(options), "reference": dict(task.reference)}

    @property
    def cells(self) -> list[dict[str, Any]]:
        """What is drawn: method, weight, seed, measures, scores, and what it cost."""
        return self.data["metrics"]["cells"]

    def add(self, cell: dict[str, Any]) -> None:
        """Keeps a cell, and writes the file."""
        self.cells.append(cell)
        self.write()

    def write(self, **more: Any) -> None:
        """Writes the file whole, with more entries."""
        self.data["metrics"] |= more
        write_json(self.file, self.data)

    def has(self, arm: Arm, seed: int) -> bool:
        """Whether an arm is drawn with a seed."""
        return any((c["method"], c["weight"], c["seed"]) == (arm.method, arm.weight, seed) for c in self.cells)

    def of(self, method: str, weight: float) -> dict[int, dict[str, Any]]:
        """The cells of an arm by their seed."""
        return {c["seed"]: c for c in self.cells if (c["method"], c["weight"]) == (method, weight)}


def run(options: Options, make: Callable[[Diffusion], Task]) -> tuple[Results, Task, list[Arm]]:
    """Draws and measures what the file does not hold yet.

    Arguments:
        options: What was asked for.
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
    """The number as JSON has it; None where it is not finite."""
    return float(value) if math.isfinite(value) else None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of the 95 % interval by Student's t; nan for a single value."""
    from scipy.stats import t

    half = math.nan
    if len(values) > 1:
        half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values), half


def cost(options: Options) -> dict[str, Any] | None:
    """What the training of the checkpoint took, from its card; None where it has none.

    `share` is that of its rows in those of the model's own training, where these are known.
    """
    place = Path(split_options(options.negative)[0])
    folder = place if place.is_dir() else NEGATIVES / place
    if not (folder / "config.json").is_file():
        return None
    metrics = read_config(folder)["metrics"]
    found = {name: metrics[name] for name in ("steps", "rows", "seconds", "seconds of samples")}
    rows = options.pretrained or pretrained_rows(options.model)
    return found | ({} if rows is None else {"pretrained rows": rows, "share": metrics["rows"] / rows})


def pretrained_rows(model: str) -> int | None:
    """Rows of the training of a shipped model: steps times batch, as the line of its card says; None if it does not."""
    place = split_options(model)[0]
    card = next(
        (folder / "README.md" for folder in (FOLDER / place, Path(place)) if (folder / "README.md").is_file()), None
    )
    lines = [] if card is None else card.read_text(encoding="utf-8").splitlines()
    text = next((line for line in lines if line.startswith("| training |")), "")
    steps = re.search(r"([\d,]+)(?: and then, from those weights, ([\d,]+))? steps", text)
    batch = re.search(r"batch (?:of )?([\d,]+)", text)
    if steps is None or batch is None:
        return None
    return sum(whole(part) for part in steps.groups() if part) * whole(batch[1])


def whole(text: str) -> int:
    """A number that is written with commas."""
    return int(text.replace(",", ""))
