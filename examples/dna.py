"""HepG2 enhancers of 200 bp: the model's own, the best of ten, SVDD-MC's and SVDD-PM's, judged by another oracle.

    python examples/dna.py --n 16 --out runs/dna

The reward is the activity in the cell type by the guiding oracle; the judging oracle was trained on other chromosomes,
and guidance never saw it. SVDD-MC selects by a learned value, which is fitted first to trajectories of the model alone
and then costs no network rows; SVDD-PM asks the oracle about the look-ahead of each candidate.
"""

import argparse
from functools import partial
from importlib.resources import files
from pathlib import Path

from design import Comparison, compare
from safetensors.numpy import load_file

import guided
from guided.rewards.sequences.activity import CELLS, activity


def main() -> None:
    """Draws, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=CELLS, default="HepG2", help="the cell type, prompt and target")
    parser.add_argument("--n", type=int, default=16, help="samples of each sampler")
    parser.add_argument("--steps", type=int, default=128, help="reverse steps K")
    parser.add_argument("--rollouts", type=int, default=1000, help="trajectories that the value is fitted to")
    parser.add_argument("--updates", type=int, default=1000, help="updates of the value network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/dna"))
    options = parser.parse_args()

    model = guided.load("dna", steps=options.steps, dtype="bfloat16")
    judges = {"judge": partial(activity, target=options.cell, oracle="judge")}
    natural = load_file(files("guided") / "checkpoints" / "dna" / "kmers.safetensors")[
        options.cell
    ]  # 3-mers of the held-out chromosomes
    table = Comparison(model, "activity", options.n, options.out, options.cell, judges, natural, options.seed)
    compare(table, options.rollouts, options.updates)


if __name__ == "__main__":
    main()
