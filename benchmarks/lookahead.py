r"""Compares decoders of look-aheads in one process: the time of a decode, its effect on the reward, and the reward that
SVDD reaches with it.

    python benchmarks/lookahead.py --reward compressibility --requests 8 -M 10 --steps 50

The same latents, of unguided samples, are decoded by each; the wall-clock ratio is the median over pairs of decodes
that follow one another. SVDD's final samples are always decoded in full for their reward.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

import guided
from guided.core.random import Streams
from guided.metrics.kmers import correlation
from guided.samplers import SVDD, Unguided
from guided.scoring.objective import resolve_reward

PROMPTS = ("red apple", "smiling cat face", "blue car", "green leaf", "yellow star", "slice of pizza", "house")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def seconds(decode: Callable[[Tensor], Any], x: Tensor) -> float:
    """Of one decode."""
    start = time.perf_counter()
    decode(x)
    return time.perf_counter() - start


@app.command()
def main(
    model: Annotated[str, typer.Option(help="A model of images.")] = "images",
    reward: Annotated[str, typer.Option(help="A reward of images.")] = "compressibility",
    requests: Annotated[int, typer.Option(help="Samples.")] = 8,
    candidates: Annotated[int, typer.Option("-M", help="SVDD's candidates.")] = 10,
    steps: Annotated[int, typer.Option(help="Reverse steps.")] = 50,
    guidance: Annotated[float, typer.Option(help="The weight of guidance.")] = 5.0,
    repeat: Annotated[int, typer.Option(help="Pairs of decodes.")] = 9,
    lookaheads: Annotated[list[str], typer.Option("--lookahead", help="Repeat for several.")] = ["tiny", "0.5"],  # noqa: B006
    out: Annotated[Path | None, typer.Option("--json", help="A file for the numbers.")] = None,
) -> None:
    """Prints the table."""
    score = resolve_reward(reward)
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(requests)]
    full = guided.load(model, steps=steps)
    conditioned = full.prompted(prompts, guidance)
    with torch.no_grad():
        x = Unguided()(conditioned, None, Streams(0, range(requests), full.device)).x[:, 0].repeat(4, 1, 1, 1)
    exact = score(full.decode(x), prompts * 4)
    columns = ("look-ahead", "wall", "reward less full's", "size", "r", "SVDD's median reward", "seconds")
    table = Table(*columns, title=f"{model}, {reward}: {len(x)} latents; SVDD with M = {candidates}, K = {steps}")
    rows = []
    for name in ["full", *lookaheads]:
        option: Any = float(name) if name.replace(".", "").isdigit() else name
        other = guided.load(model, steps=steps, lookahead=option)
        decode = other.codec.decoder(preview=True)
        decode(x), full.decode(x)  # warm
        ratios = torch.tensor([seconds(decode, x) / seconds(full.decode, x) for _ in range(repeat)])
        shown = score(decode(x), prompts * 4)
        run = guided.sample(other, score, SVDD(M=candidates), n=requests, prompt=prompts, guidance=guidance)
        gap, r = shown - exact, correlation(shown.numpy(), exact.numpy())
        cells = f"{ratios.median():.2f}", f"{gap.mean():+.3f}", f"{gap.abs().mean():.3f}", f"{r:.3f}"
        table.add_row(name, *cells, f"{run.rewards.median():.3f}", f"{run.stats.seconds['total']:.0f}")
        found = {"time": ratios.median(), "gap": gap.mean(), "size": gap.abs().mean(), "svdd": run.rewards.median()}
        rows.append({"label": name, "r": r, **{key: value.item() for key, value in found.items()}})
    Console(width=140).print(table)
    if out is not None:
        out.write_text(json.dumps({"rows": rows}))


if __name__ == "__main__":
    app()
