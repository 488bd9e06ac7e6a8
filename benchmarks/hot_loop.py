r"""Compares our loop with a plain loop, in one process, with one network and one reward.

    python benchmarks/hot_loop.py                      # a random network: L = 50, K = 128, M = 10, B = 8
    python benchmarks/hot_loop.py --model molecules --reward qed --requests 16 --steps 64
    python benchmarks/hot_loop.py --host               # milliseconds a step of the host, network free

The plain loop is SVDD as research code is usually written: for each candidate in turn a proposal, a network call for
its look-ahead and a call of the reward; then the chosen state is evaluated again at the next step; nothing is
cached. Both sample the same distribution. Printed are rows, seconds and their ratios, and our overhead: the wall-clock
time without network, decoding and reward.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from hot_loop_host import CASES, measured
from rich.console import Console
from rich.table import Table
from torch import Tensor

from guided import load
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.core.monitor import Monitor
from guided.core.random import Streams
from guided.nets.transformer import TokenTransformer
from guided.samplers import SVDD
from guided.scoring.objective import resolve_reward
from guided.values.posterior_mean import PosteriorMean

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def random_model(L: int, V: int, K: int, width: int, depth: int) -> Diffusion:
    """A masked model with random weights, sharpened so that its choices are neither uniform nor certain."""
    torch.manual_seed(0)
    net = TokenTransformer(V, L, width=width, depth=depth, heads=width // 32).eval().requires_grad_(False)
    torch.nn.init.normal_(net.position)
    torch.nn.init.normal_(net.head.weight, std=2 / width**0.5)
    return Diffusion(lambda x, t: net(x).log_softmax(-1), Masked(L, V, K), timed=False, name="random network")


def random_reward(L: int, V: int) -> Callable[[Tensor], Tensor]:
    """A position weight matrix, as of a motif."""
    w = torch.randn(L, V, generator=torch.Generator().manual_seed(1))
    return lambda x: w[torch.arange(L), x].sum(1) / L**0.5


@torch.no_grad()
def plain_loop(model: Diffusion, reward: Callable[[Any], Any], B: int, M: int) -> tuple[Tensor, int]:
    """SVDD with alpha = 0, one candidate at a time; the final sample's rewards and the network rows."""
    mask, K, rows = model.process.mask, model.steps, 0  # type: ignore[attr-defined]
    x = torch.full((B, model.process.length), mask)  # type: ignore[attr-defined]
    for k in range(K):
        t, s = 1 - k / K, 1 - (k + 1) / K
        p = model.denoiser(x, torch.full((B,), t)).exp()
        rows += B
        candidates, scores = [], []
        for _ in range(M):
            token = torch.multinomial(p.flatten(0, 1), 1).view(x.shape)
            new = torch.where((x == mask) & (torch.rand(x.shape) < (t - s) / t), token, x)
            clean = torch.where(new == mask, model.denoiser(new, torch.full((B,), s)).argmax(-1), new)
            rows += B
            candidates.append(new)
            scores.append(torch.as_tensor(reward(model.decode(clean))))
        best = torch.stack(scores).argmax(0)
        x = torch.stack([candidates[int(m)][b] for b, m in enumerate(best)])
    return torch.as_tensor(reward(model.decode(x))), rows


def our_loop(model: Diffusion, reward: Any, B: int, M: int, seed: int) -> tuple[Tensor, Monitor, float]:
    """The final samples' rewards, the counters, and the wall-clock seconds."""
    model = model.with_requests(monitor=Monitor())
    start = time.perf_counter()
    value = PosteriorMean(reward)
    with torch.no_grad():
        particles = SVDD(M)(model, value, Streams(seed, range(B)))
        scores = value(particles)
    return scores, model.monitor, time.perf_counter() - start


@dataclass(frozen=True)
class Result:
    """One repeat of both loops."""

    plain_rows: int
    plain_seconds: float
    theirs: Tensor
    monitor: Monitor
    seconds: float
    ours: Tensor


@app.command()
def main(
    model: Annotated[str, typer.Option(help="A model's name, or 'random'.")] = "random",
    reward: Annotated[str, typer.Option(help="A reward's name; for 'random' it is a random linear one.")] = "qed",
    requests: int = 8,
    candidates: int = 10,
    steps: int = 128,
    length: int = 50,
    vocabulary: int = 4,
    width: int = 128,
    depth: int = 6,
    repeats: int = 3,
    host: Annotated[bool, typer.Option("--host", help="The host's milliseconds a step instead.")] = False,
    out: Annotated[Path | None, typer.Option("--json", help="A file for the numbers.")] = None,
) -> None:
    """Prints rows, seconds and ratios, and our overhead; the medians of the repeats, taken in turn."""
    if host:
        return report_host(repeats)
    if model == "random":
        diffusion = random_model(length, vocabulary, steps, width, depth)
        score: Any = random_reward(length, vocabulary)
    else:
        diffusion = load(model, steps=steps, device="cpu")
        score = resolve_reward(reward)
    plain_score = score if model == "random" else score.terms[0].raw  # as in published code, without a memo
    plain_model = diffusion if model == "random" else load(model, steps=steps, device="cpu")  # has a memo of its own
    our_loop(diffusion, score, 2, 2, 0)  # warm up
    results = []
    for repeat in range(repeats):
        start = time.perf_counter()
        theirs, plain_rows = plain_loop(plain_model, plain_score, requests, candidates)
        plain_seconds = time.perf_counter() - start
        if model != "random":
            score.clear()
        ours, monitor, seconds = our_loop(diffusion, score, requests, candidates, repeat)
        results.append(Result(plain_rows, plain_seconds, theirs, monitor, seconds, ours))
    report(diffusion.name, results, out)


def report_host(repeats: int) -> None:
    """Prints the milliseconds of a step of which the network has no part."""
    table = Table("", "host, ms a step", "decoding", "reward", title=f"network free, medians of {repeats}")
    for name, make in CASES.items():
        total, parts = measured(make(), repeats)
        table.add_row(name, f"{total:.2f}", f"{parts['decode']:.2f}", f"{parts['reward']:.2f}")
    Console().print(table)


def median(values: list[float]) -> float:
    """The middle one."""
    return torch.tensor(values, dtype=torch.float64).quantile(0.5).item()


def report(name: str, results: list[Result], out: Path | None) -> None:
    """Prints the table, and writes the ratios into the file, if there is one."""
    table = Table("", "plain", "ours", "ratio", title=f"{name}, medians of {len(results)}")
    rows = median([r.plain_rows for r in results]), median([r.monitor.network_rows for r in results])
    table.add_row("network rows", f"{rows[0]:.0f}", f"{rows[1]:.0f}", f"{rows[1] / rows[0]:.3f}")
    seconds = median([r.plain_seconds for r in results]), median([r.seconds for r in results])
    speedup = median([r.plain_seconds / r.seconds for r in results])
    table.add_row("seconds", f"{seconds[0]:.3f}", f"{seconds[1]:.3f}", f"{speedup:.2f} times faster")
    medians = [
        median([s.double().median().item() for s in side])
        for side in ([r.theirs for r in results], [r.ours for r in results])
    ]
    table.add_row("median reward", f"{medians[0]:.3f}", f"{medians[1]:.3f}")
    for part in ("network", "decode", "reward"):
        table.add_row(f"  {part}", "", f"{median([r.monitor.seconds[part] for r in results]):.3f}")
    left = median([r.seconds - sum(r.monitor.seconds.values()) for r in results])
    decode = median([r.monitor.seconds["decode"] for r in results])
    table.add_row("  overhead", "", f"{left:.3f}", f"{left / seconds[1]:.1%} of the wall-clock time")
    Console().print(table)
    if out is not None:
        shares = {"overhead": left / seconds[1], "decode": decode / seconds[1]}
        out.write_text(json.dumps({"network_rows": rows[1] / rows[0], "speedup": speedup, **shares}))


if __name__ == "__main__":
    app()
