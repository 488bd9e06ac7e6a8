"""5' untranslated regions of 50 nt with a high ribosome load: unguided, best of ten, SVDD-MC and SVDD-PM.

    python examples/rna.py --weights optimus.hdf5 --n 32 --out runs/rna

The reward is the mean ribosome load by Optimus 5-Prime, whose Keras weights you give (see docs/rewards.md). Without
them it is the stability of the fold: the minimum free energy, from 0 to 1 at -30 kcal/mol.
"""

import argparse
from pathlib import Path

from design import Comparison, checked, compare

import guided
from guided.errors import one_line


def arguments() -> argparse.Namespace:
    """The command's options, checked before the model is loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="Optimus 5-Prime, a Keras HDF5 file")
    parser.add_argument("--species", default="human", help="the prompt")
    parser.add_argument("--n", type=int, default=32, help="number of samples of each sampler")
    parser.add_argument("--steps", type=int, default=128, help="reverse steps K")
    parser.add_argument("--rollouts", type=int, default=1000, help="number of rollouts that the value is fitted to")
    parser.add_argument("--updates", type=int, default=1000, help="updates of the value network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/rna"))
    return checked(parser.parse_args())


def main() -> None:
    """Draws, prints and writes."""
    with one_line():
        options = arguments()
        reward = f"mrl?weights={options.weights}" if options.weights else "mfe?linear=0,-30"
        model = guided.load("rna", steps=options.steps)
        table = Comparison(model, reward, options.n, options.out, options.species, seed=options.seed)
        compare(table, options.rollouts, options.updates)


if __name__ == "__main__":
    main()
