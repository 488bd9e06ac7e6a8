"""Drug-like molecules: unguided, best of ten and SVDD, by QED; a table, a CSV file and an image.

    python examples/molecules.py --n 64 --out runs/molecules

At alpha = 0 SVDD keeps the best of M candidates at every step. It runs the network on about as many rows as best-of-10,
and calls the reward more often: it also scores the look-aheads, so that each step builds on the last choice.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rdkit import Chem
from rdkit.Chem import Draw

import guided
from guided.errors import check_number, one_line
from guided.samplers import SVDD, BestOfN, Unguided


def draw(rewards: dict[str, list[float]], samples: list[str], path: Path) -> None:
    """The distribution of the reward for each sampler, and the eight best molecules of the last one."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.6])
    bins = np.linspace(0, 1, 51)
    for (name, values), color in zip(rewards.items(), ("0.75", "#e69f00", "#0072b2"), strict=True):
        left.hist(values, bins, weights=np.full(len(values), 100 / len(values)), color=color, alpha=0.8, label=name)
    left.set(xlabel="QED", ylabel="samples (%)")
    left.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, loc="upper left")
    best = sorted(set(zip(values, samples, strict=True)), reverse=True)[:8]
    molecules = [Chem.MolFromSmiles(smiles) for _, smiles in best]
    legends = [f"{value:.3f}" for value, _ in best]
    right.imshow(Draw.MolsToGridImage(molecules, molsPerRow=4, subImgSize=(400, 330), legends=legends))
    right.axis("off")
    figure.savefig(path, dpi=110)


def arguments() -> argparse.Namespace:
    """The command's options, checked before the model is loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=64, help="number of samples of each sampler")
    parser.add_argument("--steps", type=int, default=64, help="reverse steps K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/molecules"))
    options = parser.parse_args()
    for name, least in (("n", 1), ("steps", 1), ("seed", 0)):
        check_number(f"--{name}", getattr(options, name), int, least=least)
    guided.check_folder(options.out)
    return options


def compare(options: argparse.Namespace) -> None:
    """Draws with three samplers, prints a row of each, and writes the files."""
    model = guided.load("molecules", steps=options.steps)
    options.out.mkdir(parents=True, exist_ok=True)
    samplers = {"unguided": Unguided(), "best of 10": BestOfN(N=10), "SVDD": SVDD(M=10, alpha=0.0)}
    rewards: dict[str, list[float]] = {}
    print(f"{'':12}{'median QED':>12}{'distinct':>10}{'network rows':>14}{'reward calls':>14}{'seconds':>9}")
    with (options.out / "samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sampler", "request", "smiles", "qed"])
        for name, sampler in samplers.items():
            run = guided.sample(model, reward="qed", sampler=sampler, n=options.n, seed=options.seed)
            rewards[name] = run.rewards.tolist()
            writer.writerows([name, i, *row] for i, row in enumerate(zip(run.samples, rewards[name], strict=True)))
            stats, seconds = run.stats, run.stats.seconds["total"]
            print(f"{name:12}{run.rewards.median():12.3f}{len(set(run.samples)):10}", end="")
            print(f"{stats.network_rows:14}{stats.reward_calls:14}{seconds:9.1f}")
    draw(rewards, run.samples, options.out / "molecules.png")
    print(f"wrote {options.out / 'samples.csv'} and {options.out / 'molecules.png'}")


def main() -> None:
    """Draws, prints and writes."""
    with one_line():
        compare(arguments())


if __name__ == "__main__":
    main()
