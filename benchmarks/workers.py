"""Slow rewards: workers, batches that take turns, and the cache, each against what it replaces, in one run.

    python benchmarks/workers.py

Rewards and networks sleep, so that the ratios do not depend on the machine: a network under a lock, as one GPU is.

| ratio | what it says |
|---|---|
| workers | seconds of a batch without workers, divided by those with four |
| overlap | seconds of a run, divided by the larger of those of its network and of its reward with four workers |
| cache | rewards called in a second run, of those in the first |
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

import guided
from guided import Diffusion, Gaussian
from guided.samplers import SVDD

WORKERS, BLOCKS = 4, 2
B, M, K = 4, 8, 16


def sleeping(seconds: float, log: Path) -> Callable[..., list[float]]:
    """A reward that sleeps for each sample, and notes how many it was given and how long it took."""

    def reward(samples: Tensor) -> list[float]:
        start = time.perf_counter()
        time.sleep(seconds * len(samples))
        scores = [float(sample.sum()) for sample in samples]
        with log.open("a") as file:
            file.write(f"{len(samples)} {time.perf_counter() - start}\n")
        return scores

    return reward


def noted(log: Path) -> tuple[int, float]:
    """How many samples a reward was given, and the seconds that it took."""
    pairs = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    return sum(int(count) for count, _ in pairs), sum(float(seconds) for _, seconds in pairs)


def flow(seconds: float) -> tuple[Diffusion, list[float]]:
    """Rectified flow of N(2, 1) whose network sleeps under a lock, and the seconds that it had."""
    times = [1 - k / K for k in range(K + 1)]
    lock, spent = Lock(), [0.0]

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        with lock:
            start = time.perf_counter()
            time.sleep(seconds)
            spent[0] += time.perf_counter() - start
        t = t[:, None]
        return 2 + (1 - t) * (x - (1 - t) * 2) / ((1 - t) ** 2 + t**2)

    return Diffusion(denoiser, Gaussian((2,), [1 - t for t in times], times, times, eta=1.0)), spent


def workers(seconds: float, n: int, log: Path) -> None:
    """A batch with workers and without."""
    batch, took = torch.arange(2.0 * n).view(n, 2), []
    for count in (0, WORKERS):
        objective = guided.resolve_reward(sleeping(seconds, log), workers=count)
        objective(batch[: max(1, 2 * count)])  # the workers start
        start = time.perf_counter()
        objective(batch)
        took.append(time.perf_counter() - start)
        objective.close()
    print(f"workers: {n} samples of {seconds:g} s: {took[0]:.2f} s, with {WORKERS} workers {took[1]:.2f} s: ", end="")
    print(f"{took[0] / took[1]:.2f} times as fast")


def overlap(network: float, each: float, log: Path) -> None:
    """A run whose blocks take turns."""
    objective = guided.resolve_reward(sleeping(each, log), workers=WORKERS)
    objective(torch.zeros(4 * WORKERS, 2))
    model, spent = flow(network)
    noted(log)
    start = time.perf_counter()
    guided.sample(model, objective, SVDD(M), n=B * BLOCKS, batch_size=B)
    wall = time.perf_counter() - start
    objective.close()
    net, reward = spent[0], noted(log)[1] / WORKERS
    print(f"overlap: network {net:.2f} s, reward {reward * WORKERS:.2f} s / {WORKERS} = {reward:.2f} s: ", end="")
    print(f"{wall:.2f} s, {wall / max(net, reward):.2f} of the larger, {wall / (net + reward):.2f} of the sum")


def cache(folder: Path, log: Path) -> None:
    """A run and the same run again."""
    calls = []
    for _ in range(2):
        noted(log)
        reward = sleeping(0.001, log)
        run = guided.sample(flow(0.0)[0], reward, SVDD(M), n=2 * B, cache=folder / "scores", trust_rewards=True)
        calls.append(noted(log)[0])
    print(f"cache: {calls[0]} samples scored in the first run, {calls[1]} in the second, ", end="")
    print(f"{run.stats.cached} of {run.stats.reward_calls} from the cache")


def main() -> None:
    """Prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="how long the reward sleeps for a sample")
    parser.add_argument("--n", type=int, default=64, help="samples of a batch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workers(options.seconds, options.n, folder / "log")
        for network, each in ((0.4, 0.05), (0.4, 0.025), (0.2, 0.05)):
            overlap(network, each, folder / "log")
        cache(folder, folder / "log")


if __name__ == "__main__":
    main()
