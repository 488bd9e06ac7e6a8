r"""The front of two rewards: one run whose weights adapt, beside separate runs with fixed weights, for the same calls.

    python benchmarks/pareto.py qed-sa qed-similarity --repeat 200 --out runs/pareto

A pool of the model's own molecules is drawn and scored once. A request is best-of-N of N random ones of the pool by its
weights, which has the law of the sampler of that name, and costs nothing, so that each way can be repeated often enough
to tell them apart: they differ by less than one run from the next. `separate` is 16 runs of n / 16 requests with fixed
weights, and `adaptive` one run in batches of n / 8. The hypervolume is that of the n molecules chosen, above 0 in both
rewards, which are between 0 and 1. Intervals are 95 % of the mean over repetitions.
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

import guided
from guided.errors import GuidedError
from guided.metrics.pareto import hypervolume, non_dominated
from guided.runs.adaptive import Adaptive
from guided.scoring.objective import resolve_reward
from guided.scoring.scalarise import AGGREGATES

CELECOXIB = "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F"
TASKS = {"qed-sa": ("qed", "sa"), "qed-similarity": ("qed", f"similarity?target={CELECOXIB}")}
RUNS, BATCHES = 16, 8
Array = NDArray[np.float64]


def pool_of(rewards: tuple[str, str], size: int, path: Path) -> Array:
    """The scores of the model's own molecules, with shape `(size, 2)`; molecules and scores are kept in a file."""
    held = json.loads(path.read_text()) if path.exists() else {"molecules": []}
    if len(held["molecules"]) != size:
        run = guided.sample("molecules", None, "unguided", n=size, seed=0, batch_size=512, device="cpu")
        held = {"molecules": list(run.samples)}
    for reward in rewards:
        if reward not in held:
            held[reward] = resolve_reward(reward)(held["molecules"]).tolist()
    path.write_text(json.dumps(held))
    return np.array([held[reward] for reward in rewards]).T


def best_of(pool: Array, weights: Array, N: int, aggregate: str, rng: np.random.Generator) -> Array:
    """For each of n weights, with shape `(n, 2)`, the best of N of the pool, with shape `(n, 2)`."""
    drawn = pool[rng.integers(0, len(pool), (len(weights), N))]
    values = AGGREGATES[aggregate](drawn.transpose(2, 0, 1), weights.T[:, :, None])
    return drawn[np.arange(len(weights)), values.argmax(1)]


def separate(pool: Array, n: int, N: int, aggregate: str, rng: np.random.Generator) -> Array:
    """Runs with fixed weights."""
    first = (np.arange(RUNS) + 0.5) / RUNS
    return best_of(pool, np.repeat(np.array([first, 1 - first]).T, n // RUNS, 0), N, aggregate, rng)


def adaptive(pool: Array, n: int, N: int, aggregate: str, rng: np.random.Generator) -> Array:
    """Batches whose weights depend on those before."""
    weights, chosen = Adaptive(["a", "b"], [], [1.0, 1.0], aggregate), []
    for requests in np.array_split(np.arange(n), BATCHES):
        w = weights(requests.tolist()).numpy()
        scores = best_of(pool, w, N, aggregate, rng)
        columns = {"a": scores[:, 0], "b": scores[:, 1], "a_weight": w[:, 0], "b_weight": w[:, 1]}
        weights.learn(requests.tolist(), {name: column.tolist() for name, column in columns.items()})
        chosen.append(scores)
    return np.concatenate(chosen)


WAYS: dict[str, Callable[..., Array]] = {"separate": separate, "adaptive": adaptive}


def measured(way: str, aggregate: str, pool: Array, n: int, N: int, repeat: int) -> dict[str, float]:
    """The mean hypervolume over repetitions, half of its 95 % interval, and the samples that are on the front."""
    found = [WAYS[way](pool, n, N, aggregate, np.random.default_rng(seed)) for seed in range(repeat)]
    volumes = [hypervolume(scores, [0.0, 0.0]) for scores in found]
    front = statistics.fmean(len(np.unique(scores[non_dominated(scores)], axis=0)) for scores in found)
    return {"mean": statistics.fmean(volumes), "half": 1.96 * statistics.stdev(volumes) / repeat**0.5, "front": front}


def main(
    tasks: Annotated[list[str] | None, typer.Argument(help=", ".join(TASKS))] = None,
    out: Path = Path("runs/pareto"),
    size: Annotated[int, typer.Option(help="Molecules of the pool.")] = 4096,
    n: Annotated[int, typer.Option("-n", help="Requests.")] = 128,
    calls: Annotated[str, typer.Option(help="Reward calls of a request; several with commas.")] = "4,8",
    repeat: int = 200,
    file: Annotated[Path | None, typer.Option("--json", help="A file for the numbers.")] = None,
) -> None:
    """Draws the pool if it is not there, and prints a table in Markdown."""
    torch.set_grad_enabled(False)
    for task in tasks or []:
        if task not in TASKS:
            raise GuidedError(f"{task!r} is not among {', '.join(TASKS)}")
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    print(f"| rewards | calls a request | way | hypervolume | on the front |\n{'|---' * 5}|")
    for task in tasks or list(TASKS):
        pool = pool_of(TASKS[task], size, out / "pool.json")
        for N in map(int, calls.split(",")):
            for aggregate in ("mean", "tchebycheff"):
                for way in WAYS:
                    found = measured(way, aggregate, pool, n, N, repeat)
                    rows.append({"task": task, "calls": N, "way": f"{way}, {aggregate}", **found})
                    volume = f"{found['mean']:.4f} ± {found['half']:.4f}"
                    print(f"| {task} | {N} | {way}, {aggregate} | {volume} | {found['front']:.1f} |", flush=True)
    if file is not None:
        file.write_text(json.dumps({"rows": rows}))


if __name__ == "__main__":
    typer.run(main)
