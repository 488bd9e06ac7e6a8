"""The CPU time of a run by a pipeline's own loop against that of the class of its family, on the shipped image model.

The time is that of all threads of this process, so that other programs matter less than for the wall; one thread
computes. The two take turns, in an order that changes from pair to pair, and the geometric mean of the pairs' ratios is
printed with an interval of 95 %, from resampled pairs; the same for the user's share of that time alone, which Linux
estimates by sampling, and for the wall.

    python benchmarks/pipeline_loops.py [--pairs 40] [--seconds 300]
"""

import resource
import time

import numpy as np
import torch
import typer

import guided
from guided.samplers import SVDD

TIMES = ("CPU", "user", "wall")


def seconds(model: object, n: int, M: int) -> np.ndarray:
    """The seconds that a run takes: of the process, in user mode, and of the wall."""

    def now() -> np.ndarray:
        return np.array([time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.perf_counter()])

    start, options = now(), {"prompt": "red apple", "guidance": 4.0}
    guided.sample(model, reward="colourfulness", sampler=SVDD(M=M), n=n, **options)
    return now() - start


def interval(logs: np.ndarray, draws: int = 10_000) -> str:
    """The geometric mean of ratios, by their logarithms with shape `(pairs,)`, and its interval."""
    resampled = np.random.default_rng(0).choice(logs, (draws, len(logs))).mean(1)
    low, high = np.exp(np.quantile(resampled, [0.025, 0.975]))
    return f"{np.exp(logs.mean()):.4f} ({low:.4f} to {high:.4f}), median {np.exp(np.median(logs)):.4f}"


def main(
    pairs: int = 40, limit: float = typer.Option(300, "--seconds"), n: int = 4, M: int = 4, steps: int = 10
) -> None:
    """Measures and prints the ratios."""
    torch.set_num_threads(1)
    models = [guided.load("images", steps=steps, loop=loop, device="cpu") for loop in (False, True)]
    for model in models:
        seconds(model, n, M)
    end, found = time.perf_counter() + limit, []
    while len(found) < pairs and time.perf_counter() < end:
        order = (0, 1) if len(found) % 2 == 0 else (1, 0)
        taken = {i: seconds(models[i], n, M) for i in order}
        found.append(np.log(taken[1] / taken[0]))
    logs = np.stack(found)
    print(f"{len(logs)} pairs of {n} samples, M = {M}, {steps} steps; the last took {taken[0][0]:.2f} s of the CPU")
    for i, name in enumerate(TIMES):
        print(f"{name:>5}: loop / family {interval(logs[:, i])}")


if __name__ == "__main__":
    typer.run(main)
