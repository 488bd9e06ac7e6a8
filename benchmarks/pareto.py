r"""The front of two rewards: one run whose weights adapt, beside separate runs with fixed weights, for the same calls.

    python benchmarks/pareto.py qed-sa qed-similarity --out runs/pareto     # three seeds; resumes
    python benchmarks/pareto.py --show --out runs/pareto

Each way draws `n` samples with at most `calls` reward calls for each. `separate` draws 16 runs of n / 16 samples, with
weights (i + 1/2) / 16 of the first reward, each run with a seed of its own; `grid` and `adaptive` are one run of n, in
eight batches. The hypervolume is that of all n samples above 0 in both rewards, which are between 0 and 1; intervals
are those of the mean over seeds. Each run is a line of `results.csv`, written when it is finished.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from frontier_report import half_interval
from results import append, read

import guided
from guided.metrics.pareto import hypervolume, non_dominated
from guided.runs.engine import Run
from guided.samplers import Elite

CELECOXIB = "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F"
TASKS = {"qed-sa": ("qed", "sa"), "qed-similarity": ("qed", f"similarity?target={CELECOXIB}")}
RUNS = 16  # separate ones, and vectors of the grid
KEY = ("task", "way", "calls", "n", "seed")
FIELDS = (*KEY, "hypervolume", "front", "spent", "seconds")
#: How each way combines the rewards, and the weights of its samples; None for separate runs.
WAYS = {
    "separate, mean": ("mean", None),
    "separate, tchebycheff": ("tchebycheff", None),
    "grid, tchebycheff": ("tchebycheff", f"grid={RUNS}"),
    "adaptive, mean": ("mean", "adaptive"),
    "adaptive, tchebycheff": ("tchebycheff", "adaptive"),
}


def drawn(task: str, way: str, calls: int, n: int, seed: int) -> list[Run]:
    """The runs of a way."""
    aggregate, preferences = WAYS[way]
    model, sampler = guided.load("molecules", device="cpu"), Elite(N=4, rounds=1000)
    given = {"reward": list(TASKS[task]), "sampler": sampler, "aggregate": aggregate, "budget_calls": calls}
    if preferences is not None:
        return [guided.sample(model, n=n, seed=seed, preferences=preferences, batch_size=n // 8, **given)]
    weights = [((i + 0.5) / RUNS, 1 - (i + 0.5) / RUNS) for i in range(RUNS)]
    each, seeds = n // RUNS, [1000 * (seed + 1) + i for i in range(RUNS)]
    return [
        guided.sample(model, n=each, seed=own, preferences=[w] * each, **given)
        for w, own in zip(weights, seeds, strict=True)
    ]


def measured(task: str, way: str, calls: int, n: int, seed: int) -> dict[str, float]:
    """The measures of a way."""
    runs = drawn(task, way, calls, n, seed)
    names = [name.partition("?")[0] for name in TASKS[task]]
    scores = np.concatenate([np.array([run.columns[name] for name in names]).T for run in runs])
    return {
        "hypervolume": hypervolume(scores, [0.0, 0.0]),
        "front": len(np.unique(scores[non_dominated(scores)], axis=0)),
        "spent": sum(run.stats.reward_calls for run in runs),
        "seconds": sum(run.stats.seconds["total"] for run in runs),
    }


def show(rows: Sequence[Mapping[str, str]]) -> None:
    """Prints a table in Markdown."""
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in KEY[:-1]), []).append(row)
    print(f"| rewards | way | calls a sample | hypervolume | on the front | reward calls |\n{'|---' * 6}|")
    for (task, way, calls, _), group in groups.items():
        volume, front, spent = ([float(row[key]) for row in group] for key in ("hypervolume", "front", "spent"))
        means = f"{statistics.fmean(front):.1f} | {statistics.fmean(spent):.0f}"
        print(f"| {task} | {way} | {calls} | {statistics.fmean(volume):.4f} ± {half_interval(volume):.4f} | {means} |")


def main(
    tasks: Annotated[list[str] | None, typer.Argument(help=", ".join(TASKS))] = None,
    out: Path = Path("runs/pareto"),
    n: Annotated[int, typer.Option("-n")] = 128,
    calls: int = 16,
    seeds: str = "0,1,2",
    ways: str = ";".join(WAYS),
    shown: Annotated[bool, typer.Option("--show", help="Draw nothing, show what is there.")] = False,
) -> None:
    """Draws, then prints the table."""
    torch.set_grad_enabled(False)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.csv"
    there = {tuple(row[key] for key in KEY) for row in read(path)}
    for seed in [] if shown else seeds.split(","):
        for task in tasks or list(TASKS):
            for way in ways.split(";"):
                key = (task, way, str(calls), str(n), seed)
                if key not in there:
                    found = measured(task, way, calls, n, int(seed))
                    append(path, dict(zip(KEY, key, strict=True)) | found, FIELDS)
    show(read(path))


if __name__ == "__main__":
    typer.run(main)
