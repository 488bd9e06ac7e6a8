r"""How much reward each sampler gives for how much compute: by reward calls, by network rows, and by wall time.

    python benchmarks/frontier.py qed --out runs/frontier            # every sampler over its range, five seeds
    python benchmarks/frontier.py qed dna -n 16 --seeds 0,1 --samplers svdd,smc,best-of-n --out runs/frontier
    python benchmarks/frontier.py --show --out runs/frontier         # the table and the pictures of what is there

Each sampler is run over a range of its size (candidates, particles, a budget); each run is a line of `results.csv`,
written when it is finished, and not repeated when the command is. Costs are for one sample: reward calls after
duplicates, network rows, and seconds of this machine. The measure of a sampler is the area under its best median reward
over the logarithm of a cost, divided by its width: the mean reward over all budgets of a range that all samplers cover.
Intervals are :math:`\pm t_{.975, s - 1} \, sd / \sqrt{s}` over s seeds.

`judge` is the median of a second reward that guides nothing, `nearest` the mean distance of a sample to the nearest
other one (1 - Tanimoto similarity of molecules, share of different letters of sequences), `log-likelihood` the mean
bound of the model itself, in nats a sample.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from results import append, read

import guided
from guided.errors import GuidedError
from guided.metrics.molecules import fingerprints
from guided.samplers import sampler_from_dict, samplers
from guided.scoring.objective import resolve_reward

CELECOXIB = "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F"
COSTS = ("calls", "rows", "seconds")
T975 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}  # of s - 1


@dataclass(frozen=True)
class Task:
    """A model with a reward, and what samples are judged by."""

    model: str
    reward: str
    prompt: str | None = None
    steps: int | None = None
    judge: str | None = None
    alpha: float = 0.0  # of samplers that need one above 0, in units of the reward


TASKS = {
    "qed": Task("molecules", "qed", judge="sa", alpha=0.02),
    "similarity": Task("molecules", f"similarity?target={CELECOXIB}", judge="qed", alpha=0.02),
    "dna": Task("dna", "activity", "HepG2", judge="activity?oracle=judge", alpha=0.3),
    "jpeg": Task("images", "compressibility", "red apple", judge="symmetry", alpha=0.2),
    "colour": Task("images", "target_colour?colour=red", "apple", judge="compressibility", alpha=2.0),
}

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Range:
    """The sizes of a sampler: the name of its field, and the values of all fields for each size."""

    field: str
    sizes: Sequence[int]
    more: Callable[[Task], Values] = lambda task: {}


RANGES = {
    "unguided": Range("", [1]),
    "best-of-n": Range("N", [4, 16, 64, 256]),
    "svdd": Range("M", [2, 5, 10, 20]),
    "rollover": Range("M", [2, 5, 10, 20]),
    "beam": Range("N", [2, 4, 8], lambda task: {"M": 4}),
    "block-best-of-n": Range("N", [4, 16, 64]),
    "tree": Range("N", [16, 64, 256]),
    "elite": Range("rounds", [4, 16, 64]),
    "noise-search": Range("rounds", [4, 16, 32]),
    "smc": Range("N", [4, 16, 64], lambda task: {"alpha": task.alpha}),
    "tilt": Range("N", [1, 2, 4], lambda task: {"alpha": task.alpha}),
    "refine": Range("rounds", [8, 32, 128], lambda task: {"alpha": task.alpha, "best": True}),
}
MASKED = ("tilt",)  # for models of tokens only


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


def measured(task: Task, name: str, fields: Values, n: int, seed: int, device: str) -> dict[str, float]:
    """The measures of one run."""
    model = guided.load(task.model, device=device)
    reward = None if name == "unguided" else task.reward
    sampler = sampler_from_dict({"name": name, **fields})
    run = guided.sample(model, reward, sampler, n=n, seed=seed, prompt=task.prompt, steps=task.steps, batch_size=n)
    rewards = run.rewards if reward else resolve_reward(task.reward)(run.samples, _prompts(task, n))
    found = {
        "median": float(rewards.median()),
        "mean": float(rewards.mean()),
        "calls": run.stats.reward_calls / n,
        "rows": run.stats.network_rows / n,
        "seconds": run.stats.seconds["total"] / n,
        "valid": float(rewards.isfinite().double().mean()),
    }
    if all(isinstance(sample, str) for sample in run.samples):
        found |= {"unique": len({*run.samples}) / n, "nearest": nearest(run.samples, model.modality)}
    if task.judge is not None:
        judged = resolve_reward(task.judge)(run.samples, _prompts(task, n))
        found["judge"] = float(judged.median())
    return found


def _prompts(task: Task, n: int) -> list[str] | None:
    return None if task.prompt is None else [task.prompt] * n


def draw(tasks: Sequence[str], names: Sequence[str], seeds: Sequence[int], n: int, path: Path, device: str) -> None:
    """Draws what the file does not hold yet."""
    there = {(row["task"], row["sampler"], row["size"], row["seed"], row["n"]) for row in read(path)}
    for name in tasks:
        for sampler in names:
            for seed in [] if sampler in MASKED and TASKS[name].model == "images" else seeds:
                for size in RANGES[sampler].sizes:
                    key = (name, sampler, str(size), str(seed), str(n))
                    if key not in there:
                        it = RANGES[sampler]
                        fields = {**it.more(TASKS[name]), **({it.field: size} if it.field else {})}
                        found = measured(TASKS[name], sampler, fields, n, seed, device)
                        append(
                            path, dict(zip(("task", "sampler", "size", "seed", "n"), key, strict=True)) | found, FIELDS
                        )


FIELDS = ("task", "sampler", "size", "seed", "n", "median", "mean", *COSTS, "valid", "unique", "nearest", "judge")


def area(points: Sequence[tuple[float, float]], low: float, high: float) -> float:
    """The mean of the best reward so far over the logarithm of the cost, between two costs; it is a staircase."""
    total, best, at = 0.0, None, math.log(low)
    for cost, reward in sorted(points):
        if cost <= low:
            best = reward if best is None else max(best, reward)
        elif cost < high and best is not None:
            total, at = total + best * (math.log(cost) - at), math.log(cost)
            best = max(best, reward)
    return math.nan if best is None else (total + best * (math.log(high) - at)) / (math.log(high) - math.log(low))


def areas(rows: Sequence[Mapping[str, str]], cost: str) -> dict[str, tuple[float, float]]:
    """For each sampler the mean and the half interval of its area over seeds, in the range that all cover."""
    by: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if row["sampler"] != "unguided":
            point = (float(row[cost]), float(row["median"]))
            by.setdefault(row["sampler"], {}).setdefault(row["seed"], []).append(point)
    if not by:
        return {}
    low = max(max(min(points)[0] for points in seeds.values()) for seeds in by.values())
    high = max(max(points)[0] for seeds in by.values() for points in seeds.values())
    if not low < high:
        return {}
    found = {}
    for name, seeds in by.items():
        each = [area(points, low, high) for points in seeds.values()]
        half = (
            T975.get(len(each) - 1, math.nan) * statistics.stdev(each) / len(each) ** 0.5 if len(each) > 1 else math.nan
        )
        found[name] = (statistics.fmean(each), half)
    return dict(sorted(found.items(), key=lambda it: -it[1][0]))


def show(rows: Sequence[Mapping[str, str]], out: Path) -> None:
    """Prints the areas, and draws the curves of each task."""
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        for cost in COSTS:
            cells = [f"{name} {mean:.4g} ± {half:.2g}" for name, (mean, half) in areas(own, cost).items()]
            print(f"{task}, area by {cost}: " + "; ".join(cells))
        picture(task, own, out / f"{task}.png")


def picture(task: str, rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """The median reward of each sampler by each cost, averaged over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for number, cost in enumerate(COSTS, 1):
        axes = figure.add_subplot(1, 3, number, xscale="log", xlabel=f"{cost} a sample", ylabel="median reward")
        for name in dict.fromkeys(row["sampler"] for row in rows):
            sizes: dict[str, list[Mapping[str, str]]] = {}
            for row in rows:
                if row["sampler"] == name:
                    sizes.setdefault(row["size"], []).append(row)
            x = [statistics.fmean(max(float(row[cost]), 1e-9) for row in group) for group in sizes.values()]
            y = [statistics.fmean(float(row["median"]) for row in group) for group in sizes.values()]
            if name == "unguided":
                axes.axhline(y[0], color="#a9adb3", lw=1, label=name)
            else:
                axes.plot(x, y, marker="o", ms=3, lw=1.2, label=name)
        axes.set_title(task)
    figure.axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=150)


def main(
    tasks: Annotated[list[str] | None, typer.Argument(help=", ".join(TASKS))] = None,
    out: Path = Path("runs/frontier"),
    n: Annotated[int, typer.Option("-n", help="Samples of a run.")] = 32,
    seeds: str = "0,1,2,3,4",
    only: Annotated[str, typer.Option("--samplers", help="Names, with commas; all if not given.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    shown: Annotated[bool, typer.Option("--show", help="Draw nothing, show what is there.")] = False,
) -> None:
    """Draws, then prints the areas and draws the pictures."""
    torch.set_grad_enabled(False)
    names = only.split(",") if only else [name for name in RANGES if name in samplers()]
    for given, known in ((tasks or [], TASKS), (names, RANGES)):
        for name in given:
            if name not in known:
                raise GuidedError(f"{name!r} is not among {', '.join(known)}")
    out.mkdir(parents=True, exist_ok=True)
    if not shown:
        draw(tasks or list(TASKS), names, [int(seed) for seed in seeds.split(",")], n, out / "results.csv", device)
    show(read(out / "results.csv"), out)


if __name__ == "__main__":
    typer.run(main)
