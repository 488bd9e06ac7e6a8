"""Drug-like molecules: the model's own, the best of ten, and SVDD's, by QED; a table, a CSV file and a picture.

    python examples/molecules.py --n 64 --out runs/molecules

At alpha = 0 SVDD keeps the best of M candidates at every step. It looks at about as many molecules as best-of-10, but
while they are made, so that each step builds on the last one's choice.
"""

import argparse
import csv
from pathlib import Path

from rdkit import Chem
from rdkit.Chem import Draw

import guided
from guided.samplers import SVDD, BestOfN, Unguided


def draw(samples: list[str], rewards: list[float], path: Path) -> None:
    """A grid of the eight best different molecules."""
    best = sorted(set(zip(rewards, samples, strict=True)), reverse=True)[:8]
    molecules = [Chem.MolFromSmiles(smiles) for _, smiles in best]
    legends = [f"QED {reward:.3f}" for reward, _ in best]
    image = Draw.MolsToGridImage(molecules, molsPerRow=4, subImgSize=(260, 220), legends=legends)
    image.save(path)


def main() -> None:
    """Draws, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=64, help="samples of each sampler")
    parser.add_argument("--steps", type=int, default=64, help="reverse steps K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/molecules"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    model = guided.load("molecules", steps=options.steps)
    samplers = {"unguided": Unguided(), "best of 10": BestOfN(N=10), "SVDD": SVDD(M=10, alpha=0.0)}
    print(f"{'':12}{'median QED':>12}{'distinct':>10}{'network rows':>14}{'reward calls':>14}{'seconds':>9}")
    with (options.out / "samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sampler", "request", "smiles", "qed"])
        for name, sampler in samplers.items():
            run = guided.sample(model, reward="qed", sampler=sampler, n=options.n, seed=options.seed)
            rewards = run.rewards.tolist()
            writer.writerows([name, i, *row] for i, row in enumerate(zip(run.samples, rewards, strict=True)))
            stats, seconds = run.stats, run.stats.seconds["total"]
            print(f"{name:12}{run.rewards.median():12.3f}{len(set(run.samples)):10}", end="")
            print(f"{stats.network_rows:14}{stats.reward_calls:14}{seconds:9.1f}")
    draw(run.samples, rewards, options.out / "best.png")
    print(f"wrote {options.out / 'samples.csv'} and {options.out / 'best.png'}")


if __name__ == "__main__":
    main()
