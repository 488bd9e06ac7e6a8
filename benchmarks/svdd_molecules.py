r"""SVDD's experiment with molecules, on the same pretrained network: GDSS of ZINC250k, and a reward of molecules.

    python benchmarks/svdd_molecules.py gdss_zinc250k.pth                      # small: 16 requests, 200 scales
    python benchmarks/svdd_molecules.py gdss_zinc250k.pth --setting paper      # 128 requests, 1000 scales: half a day
    python benchmarks/svdd_molecules.py gdss_zinc250k.pth --setting paper --device cuda --batch-size 128 --workers 8
    python benchmarks/svdd_molecules.py gdss_zinc250k.pth -n 8 --unguided 16 --best 25 -M 6 --every 80 --block 40 \
        --elite 5 --reward "docking?receptor=parp1.pdbqt.gz&max_evals=30000" --workers 2 --cache cache \
        --judge "docking?receptor=parp1.pdbqt.gz&max_evals=300000&seed=2"

Each row is a run of its own: the median of the reward and its 10 % and 90 % quantiles, the mean, the share of graphs
that are valid without correction, of those that are one molecule and not several fragments, the atoms that the sample
has of its graph, distinct samples, network calls and scores for a sample, seconds. A scale is two steps, and with
`--every 2` candidates are compared once a scale, with half of the calls. The reward of a sample is that of the largest
fragment after valence correction, as in the paper, so the shares beside it say what it hides. With `--whole` it is that
of all fragments together, times the share of the largest, so that one molecule is worth more than a good part; with
`--whole --reward "qed?largest=true" --connected 0.3` that of the largest, as in the paper, times the same. With
`--judge` the median by another reward, which guided nothing, is a column: of a docking with a longer search.

`--block` lets M chains run so many steps before one is chosen, which is SVDD with steps that long (block-best-of-n);
with `--every` alone candidates differ by the noise of one step. Early look-aheads of graphs are cages that no conformer
fits, so chains are compared late. `--elite N` breeds N rounds of N finished samples, of four drawn for each.

The paper's medians, read off its plots: QED .655 unguided, .835 best of 10, .845 SVDD-PM; docking to parp1 7.2, 10.0
and 11.4. Its code compares candidates under other molecules' node masks.

References:
    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024)
    | https://arxiv.org/abs/2408.08252
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import guided
from guided.runs.engine import Run
from guided.scoring.objective import Objective

#: Requests, scales and candidates.
SETTINGS = {"small": (16, 200, 10), "paper": (128, 1000, 10)}
COLUMNS = (
    *("sampler", "n", "median (10 %, 90 %)", "mean", "valid", "one molecule", "share", "distinct", "calls", "scores"),
    *("seconds", "judged"),
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def cells(name: str, run: Run, judge: Objective | None = None) -> list[str]:
    """A row of the table."""
    n, rewards = len(run.rewards), run.rewards.numpy()
    found = rewards[np.isfinite(rewards)]
    low, median, high = np.quantile(found, [0.1, 0.5, 0.9]) if len(found) else [np.nan] * 3
    columns = {name: np.array(run.columns[name]) for name in ("valid", "fragments", "largest_share")}
    return [
        name,
        f"{n}" + (f" ({n - len(found)} failed)" if len(found) < n else ""),
        f"{median:.3f} ({low:.3f}, {high:.3f})",
        f"{found.mean() if len(found) else np.nan:.3f}",
        f"{columns['valid'].mean():.3f}",
        f"{(columns['fragments'] == 1).mean():.3f}",
        f"{columns['largest_share'].mean():.3f}",
        f"{len(set(run.samples)) / n:.3f}",
        f"{run.stats.network_rows / n:.0f}",
        f"{run.stats.reward_calls / n:.0f}",
        f"{run.stats.seconds['total']:.0f}",
        "" if judge is None else _judged(np.array(judge(run.samples).tolist())),
    ]


def _judged(rewards: np.ndarray) -> str:
    """The median of the rewards that there are, and how many there are not."""
    failed = int((~np.isfinite(rewards)).sum())
    return f"{np.median(rewards[np.isfinite(rewards)]):.3f}" + (f" ({failed} failed)" if failed else "")


@app.command()
def main(
    model: Annotated[str, typer.Argument(help="The published file, or a converted folder.")],
    setting: Annotated[str, typer.Option(help="small or paper.")] = "small",
    reward: Annotated[str, typer.Option(help="A reward of molecules.")] = "qed",
    n: Annotated[int | None, typer.Option("-n", help="Requests of SVDD and best-of-N; by the setting.")] = None,
    unguided: Annotated[int | None, typer.Option(help="Unguided samples; 64, or as many as requests.")] = None,
    scales: Annotated[int | None, typer.Option(help="By the setting.")] = None,
    candidates: Annotated[int | None, typer.Option("-M", help="SVDD's candidates; by the setting.")] = None,
    best: Annotated[int, typer.Option(help="N of best-of-N.")] = 10,
    every: Annotated[list[int], typer.Option(help="SVDD compares at every j-th step; repeat for several.")] = [1, 2],  # noqa: B006
    block: Annotated[list[int], typer.Option(help="Steps of a block of block-best-of-n; repeat for several.")] = [],  # noqa: B006
    late: Annotated[float, typer.Option(help="Chains of blocks are compared from this part of the run on.")] = 0.7,
    elite: Annotated[int, typer.Option(help="N and rounds of elite; 0 for none.")] = 0,
    judge: Annotated[str | None, typer.Option(help="Another reward, of the finished samples.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Score all fragments, times the largest one's share.")] = False,
    connected: Annotated[float, typer.Option(help="The weight of that share.")] = 1.0,
    alpha: Annotated[float, typer.Option(help="SVDD's temperature.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The seed of all runs.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes that score.")] = None,
    device: Annotated[str, typer.Option(help="Where the network is: cpu, cuda or auto.")] = "cpu",
    batch_size: Annotated[int, typer.Option(help="Requests that are drawn together.")] = 32,
    cache: Annotated[Path | None, typer.Option(help="A folder that keeps scores.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for the runs.")] = None,
) -> None:
    """Prints the table; a row is printed when its run is finished."""
    requests, K, M = (given or own for given, own in zip((n, scales, candidates), SETTINGS[setting], strict=True))
    runs: dict[str, tuple[Any, int]] = {
        "unguided": ("unguided", unguided or max(64, requests)),
        f"best of {best}": ({"name": "best-of-n", "N": best}, requests),
    }
    for j in every:
        runs[f"SVDD-PM, M = {M}, every {j}"] = ({"name": "svdd", "M": M, "alpha": alpha, "every": j}, requests)
    for steps in block:
        blocks = {"name": "block-best-of-n", "N": M, "block": steps, "interval": (late, 1.0)}
        runs[f"{M} chains, blocks of {steps}"] = (blocks, requests)
    if elite:
        options = {"N": elite, "rounds": elite, "size": elite, "level": 0.4, "screen": 4}
        runs[f"elite, {elite} x {elite}"] = ({"name": "elite", **options}, requests)
    second = None if judge is None else guided.resolve_reward(judge, workers=workers or 0, cache=cache)
    table = Table(*COLUMNS, title=f"{reward}: {model}, {K} scales")
    console = Console(width=160)
    loaded = guided.load(model, steps=2 * K, whole=whole, device=device)
    objective: Any = [reward, f"connected?weight={connected}"] if whole else reward
    for name, (sampler, size) in runs.items():
        place = None if out is None else out / name.replace(" ", "").replace(",", "-").replace("=", "")
        how: dict[str, Any] = {
            "workers": workers or 0,
            "cache": cache,
            "seed": seed,
            "out": place,
            "report": False,
            "aggregate": "product",
        }
        run = guided.sample(loaded, objective, sampler, n=size, batch_size=min(size, batch_size), **how)
        row = cells(name, run, second)
        table.add_row(*row)
        console.print("  ".join(row))
    console.print(table)


if __name__ == "__main__":
    app()
