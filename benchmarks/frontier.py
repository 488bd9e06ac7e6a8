r"""How much reward each sampler gives for how much compute: by reward calls, by network rows, and by wall time.

    python benchmarks/frontier.py qed --out runs/frontier            # every sampler, five seeds
    python benchmarks/frontier.py hepg2 --seeds 0,1 --samplers svdd,smc,best-of-n --minutes 15 --out runs/frontier
    python benchmarks/frontier.py --show --out runs/frontier         # the tables and the pictures of what is there

Each sampler is given about the network rows of `size` chains, for each size of its task (frontier_tasks.py); each run
is a line of `results.csv`, written when it is finished, and not repeated when the command is. One seed is finished
before the next begins, so that what is there can be compared whenever it was stopped. Costs are for one sample: reward
calls after duplicates, network rows, and seconds of this machine. The measure of a sampler is the area under its best
median reward over the logarithm of a cost, divided by its width: the mean reward over all budgets between the cheapest
run and the dearest, where one that pays for no run of a sampler has the median of the model alone. Intervals are
:math:`\pm t_{.975, s - 1} \, sd / \sqrt{s}` over s seeds.

`judge` is the median of a second reward that guides nothing, `nearest` the mean distance of a sample to the nearest
other one (1 - Tanimoto similarity of molecules, share of different letters of sequences), `log_likelihood` the mean
bound of the model itself, in nats a sample, over the samples that the model can encode; images have none.
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from frontier_report import COSTS, show
from frontier_tasks import SIZED, TASKS, Task
from results import append, read

import guided
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError
from guided.metrics.likelihood import log_likelihood
from guided.metrics.molecules import fingerprints
from guided.samplers import sampler_from_dict
from guided.scoring.objective import resolve_reward

MASKED = ("tilt",)  # for models of tokens only
KEY = ("task", "sampler", "size", "seed", "n")
FIELDS = (*KEY, "median", "mean", *COSTS, "valid", "unique", "nearest", "judge", "log_likelihood")
DRAWS = 16  # of the bound of a sample


def nearest(samples: Sequence[str], modality: str) -> float:
    """The mean distance of a sample to the nearest other one, 0 to 1; nan where there is no distance."""
    if len(samples) < 2 or modality not in ("molecules", "dna", "rna"):
        return math.nan
    if modality == "molecules":
        bits = fingerprints(samples)
        common, sizes = bits @ bits.T, bits.sum(1)
        distances = 1 - common / np.maximum(sizes[:, None] + sizes - common, 1)
    else:
        letters = np.array([list(sample) for sample in samples])
        distances = (letters[:, None] != letters).mean(2)
    np.fill_diagonal(distances, np.inf)
    return float(distances.min(1).mean())


def likelihood(model: Diffusion, samples: Sequence[Any], prompts: Sequence[str] | None) -> float:
    """The mean bound of the samples that the model encodes, in nats; nan if there are none, or it has no bound."""
    if model.process.tokens is None:
        return math.nan
    rows: dict[int, torch.Tensor] = {}
    for i, sample in enumerate(samples):
        try:
            rows[i] = model.encode(sample)
        except GuidedError:  # as a molecule whose fragments are in another order than the model's
            continue
    if not rows:
        return math.nan
    asked = model if prompts is None else model.prompted([prompts[i] for i in rows])
    return float(log_likelihood(asked, torch.stack([*rows.values()]), draws=DRAWS).mean())


@lru_cache(maxsize=1)
def loaded(task: Task, device: str) -> Diffusion:
    """The model of a task."""
    model = guided.load(task.model, device=device)
    return model if task.steps is None else model.with_steps(task.steps)


def measured(task: Task, name: str, fields: Mapping[str, Any], n: int, seed: int, device: str) -> dict[str, float]:
    """The measures of one run."""
    model, prompts = loaded(task, device), task.prompted(n)
    reward = None if name == "unguided" else task.reward
    sampler = sampler_from_dict({"name": name, **fields})
    run = guided.sample(model, reward, sampler, n=n, seed=seed, prompt=prompts, guidance=task.guidance, batch_size=n)
    rewards = run.rewards if reward else resolve_reward(task.reward)(run.samples, prompts)
    found = {
        "median": statistics.median(rewards.tolist()),
        "mean": float(rewards.mean()),
        "calls": run.stats.reward_calls / n,
        "rows": run.stats.network_rows / n,
        "seconds": run.stats.seconds["total"] / n,
        "valid": float(rewards.isfinite().double().mean()),
        "judge": statistics.median(resolve_reward(task.judge)(run.samples, prompts).tolist()),
    }
    if model.process.tokens is not None:
        found |= {"unique": len({*run.samples}) / n, "nearest": nearest(run.samples, model.modality)}
        found["log_likelihood"] = likelihood(model, run.samples, prompts)
    return found


def planned(tasks: Sequence[str], names: Sequence[str], seeds: Sequence[int], n: int | None) -> list[dict[str, str]]:
    """The runs, in their order."""
    runs = []
    for seed in seeds:
        for name in tasks:
            task = TASKS[name]
            for sampler in names:
                if not (sampler in MASKED and task.model == "images"):
                    sizes = (1,) if sampler == "unguided" else task.sizes
                    values = [(name, sampler, size, seed, n or task.n) for size in sizes]
                    runs += [dict(zip(KEY, map(str, value), strict=True)) for value in values]
    return runs


def draw(runs: Sequence[Mapping[str, str]], path: Path, device: str, minutes: float) -> None:
    """Draws the runs that the file does not hold yet, until the time is over."""
    there = {tuple(row[part] for part in KEY) for row in read(path)}
    end = time.monotonic() + 60 * minutes
    for run in runs:
        if time.monotonic() > end:
            print(f"{minutes:g} minutes are over; the same command goes on")
            return
        if tuple(run.values()) not in there:
            task, name = TASKS[run["task"]], run["sampler"]
            fields = SIZED[name](int(run["size"]), task)
            append(path, {**run, **measured(task, name, fields, int(run["n"]), int(run["seed"]), device)}, FIELDS)


def main(
    tasks: Annotated[list[str] | None, typer.Argument(help=", ".join(TASKS))] = None,
    out: Path = Path("runs/frontier"),
    n: Annotated[int | None, typer.Option("-n", help="Samples of a run, instead of the task's.")] = None,
    seeds: str = "0,1,2,3,4",
    only: Annotated[str, typer.Option("--samplers", help="Names, with commas; all if not given.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    minutes: Annotated[float, typer.Option(help="No run begins after so many.")] = math.inf,
    shown: Annotated[bool, typer.Option("--show", help="Draw nothing, show what is there.")] = False,
) -> None:
    """Draws, then prints the tables and draws the pictures."""
    torch.set_grad_enabled(False)
    names = only.split(",") if only else [*SIZED]
    for given, known in ((tasks or [], TASKS), (names, SIZED)):
        for name in given:
            if name not in known:
                raise GuidedError(f"{name!r} is not among {', '.join(known)}")
    out.mkdir(parents=True, exist_ok=True)
    if not shown:
        runs = planned(tasks or [*TASKS], names, [int(seed) for seed in seeds.split(",")], n)
        draw(runs, out / "results.csv", device, minutes)
    show(read(out / "results.csv"), out)


if __name__ == "__main__":
    typer.run(main)
