"""HepG2 enhancers of 200 bp: unguided, best of ten, SVDD-MC and SVDD-PM, judged by another oracle.

    python examples/dna.py --n 16 --out runs/dna

The reward is the activity in the cell type by the guiding oracle; the judging oracle was trained on other chromosomes,
and is not used for guidance. SVDD-MC selects by a learned value, which is fitted to unguided rollouts first and
needs no further network rows; SVDD-PM scores the look-ahead of each candidate with the oracle.
"""

import argparse
from functools import partial
from importlib.resources import files
from pathlib import Path

from design import Comparison, checked, compare
from safetensors.numpy import load_file

import guided
from guided.errors import one_line
from guided.rewards.sequences.activity import CELLS, activity


def arguments() -> argparse.Namespace:
    """The command's options, checked before the model is loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=CELLS, default="HepG2", help="the cell type, prompt and target")
    parser.add_argument("--n", type=int, default=16, help="number of samples of each sampler")
    parser.add_argument("--steps", type=int, default=128, help="reverse steps K")
    parser.add_argument("--rollouts", type=int, default=1000, help="number of rollouts that the value is fitted to")
    parser.add_argument("--updates", type=int, default=1000, help="updates of the value network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/dna"))
    return checked(parser.parse_args())


def main() -> None:
    """Draws, prints and writes."""
    with one_line():
        options = arguments()
        model = guided.load("dna", steps=options.steps, dtype="bfloat16")
        judges = {"judge": partial(activity, target=options.cell, oracle="judge")}
        natural = load_file(files("guided") / "checkpoints" / "dna" / "kmers.safetensors")[
            options.cell
        ]  # 3-mers of the held-out chromosomes
        table = Comparison(model, "activity", options.n, options.out, options.cell, judges, natural, options.seed)
        compare(table, options.rollouts, options.updates)


if __name__ == "__main__":
    main()
