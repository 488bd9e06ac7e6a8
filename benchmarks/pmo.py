r"""The benchmark of practical molecular optimisation: the best molecules within 10,000 reward calls.

    python benchmarks/pmo.py drd2 gsk3b jnk3 --out runs/pmo       # three seeds; all tasks if none is named
    python benchmarks/pmo.py median1 --set N=16 --set level=0.3 --calls 2000 --seeds 0 --out runs/pmo
    python benchmarks/pmo.py --show --out runs/pmo

One request of a sampler is drawn, with a budget of calls; what counts is all that the reward was asked about, in that
order, each molecule once. The area under the curve is the published one: the mean of the ten best scores after every
100 calls, integrated by trapezoids, divided by the number of calls; if the sampler stops early, its last value counts
for the rest. No molecules of a data set are scored beforehand. Each run is a line of `results.csv`, written when it is
finished, and not repeated when the command is.

References:
    | Sample Efficiency Matters: A Benchmark for Practical Molecular Optimization (Gao et al., 2022)
    | https://arxiv.org/abs/2206.12411
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from results import append, read

import guided
from guided.errors import GuidedError
from guided.metrics.molecules import canonical
from guided.rewards.molecules.guacamol import TASKS
from guided.samplers import sampler_from_dict
from guided.scoring.objective import resolve_reward

REWARDS = {"qed": "qed", "drd2": "drd2", "gsk3b": "gsk3b", "jnk3": "jnk3", **{t: f"guacamol?task={t}" for t in TASKS}}
FIELDS = ("task", "sampler", "calls", "seed", "top1", "top10", "auc", "distinct", "seconds")
EVERY = 100  # calls between two points of the curve


class Recorder:
    """A reward that remembers the scores of distinct molecules in the order in which they were asked about."""

    def __init__(self, reward: str) -> None:
        self.reward, self.scores, self.best = resolve_reward(reward), dict[str, float](), ""

    def __call__(self, samples: Sequence[str | None]) -> list[float]:
        scores = self.reward(list(samples)).tolist()
        for sample, score in zip(samples, scores, strict=True):
            self.scores.setdefault(canonical(sample or "") or "", score)
        return [float(score) for score in scores]


def top(scores: Sequence[float], k: int) -> float:
    """The mean of the k best."""
    return statistics.fmean(sorted(scores, reverse=True)[:k] or [0.0])


def area(scores: Sequence[float], calls: int, k: int = 10) -> float:
    """The mean over calls of the mean of the k best so far, from a value of 0 at no calls.

    Args:
        scores: Those of distinct molecules, in the order of the calls.
        calls: The budget; after the last score the curve stays where it is.
        k: How many are averaged.
    """
    scores = scores[:calls]
    total, before, at = 0.0, 0.0, 0
    for stop in [*range(EVERY, min(len(scores), calls), EVERY), len(scores)]:
        now = top(scores[:stop], k)
        total, before, at = total + (stop - at) * (before + now) / 2, now, stop
    return (total + (calls - at) * before) / calls


def measured(task: str, sampler: str, model: str, calls: int, seed: int, steps: int | None) -> dict[str, float]:
    """The measures of one run; `steps` as of `guided.sample`."""
    reward, start = Recorder(REWARDS[task]), time.perf_counter()
    name, _, fields = sampler.partition(" ")
    made = sampler_from_dict({"name": name, **{k: _number(v) for k, v in (f.split("=") for f in fields.split())}})
    guided.sample(guided.load(model, device="cpu"), reward, made, n=1, seed=seed, budget_calls=calls, steps=steps)
    scores = [score for smiles, score in reward.scores.items() if smiles]
    return {
        "top1": top(scores, 1),
        "top10": top(scores, 10),
        "auc": area(scores, calls),
        "distinct": len(scores),
        "seconds": time.perf_counter() - start,
    }


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def show(rows: Sequence[Mapping[str, str]]) -> None:
    """Prints mean and standard deviation over seeds of each task, and the sum of the means of a sampler."""
    groups: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["sampler"], row["calls"], row["task"]), []).append(row)
    sums: dict[tuple[str, str], list[float]] = {}
    for (sampler, calls, task), group in sorted(groups.items()):
        cells = []
        for name in ("auc", "top10", "top1"):
            each = [float(row[name]) for row in group]
            spread = f" ± {statistics.stdev(each):.3f}" if len(each) > 1 else ""
            cells.append(f"{name} {statistics.fmean(each):.3f}{spread}")
            if name == "auc":
                sums.setdefault((sampler, calls), []).append(statistics.fmean(each))
        print(f"{sampler}, {calls} calls, {task}, {len(group)} seeds: " + ", ".join(cells))
    for (sampler, calls), each in sums.items():
        print(f"{sampler}, {calls} calls: sum of the areas of {len(each)} tasks {sum(each):.3f}")


def main(
    tasks: Annotated[list[str] | None, typer.Argument(help=", ".join(REWARDS))] = None,
    out: Path = Path("runs/pmo"),
    sampler: str = "elite",
    fields: Annotated[list[str], typer.Option("--set", metavar="K=V")] = ["N=32", "size=100", "rounds=100000"],  # noqa: B006
    model: str = "molecules",
    calls: int = 10_000,
    seeds: str = "0,1,2",
    steps: Annotated[int | None, typer.Option(help="Reverse steps K; the model's own if not given.")] = None,
    shown: Annotated[bool, typer.Option("--show", help="Draw nothing, show what is there.")] = False,
) -> None:
    """Draws, then prints what was reached."""
    torch.set_grad_enabled(False)
    for task in tasks or []:
        if task not in REWARDS:
            raise GuidedError(f"{task!r} is not among {', '.join(REWARDS)}")
    out.mkdir(parents=True, exist_ok=True)
    sampler = " ".join([sampler, *fields])
    path = out / "results.csv"
    there = {tuple(row[name] for name in FIELDS[:4]) for row in read(path)}
    for seed in [] if shown else seeds.split(","):
        for task in tasks or list(REWARDS):
            key = (task, sampler if steps is None else f"{sampler}, {steps} steps", str(calls), seed)
            if key not in there:
                found = measured(task, sampler, model, calls, int(seed), steps)
                append(path, dict(zip(FIELDS, key, strict=False)) | found, FIELDS)
    show(read(path))


if __name__ == "__main__":
    typer.run(main)
