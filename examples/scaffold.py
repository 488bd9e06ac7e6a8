"""Molecules around a scaffold: its tokens are pinned, the model fills in the rest, the reward decides.

    python examples/scaffold.py --scaffold "O=C(Nc1ccccc1)c1ccccc1"

The molecule grows from the last atom of the SMILES. Pinned tokens stay in every sample, but what follows them may still
close a ring with the scaffold's atoms, so that a few molecules in a hundred do not contain it any more. A term of the
reward requires it, and the example counts how many contain it.
"""

import argparse

import torch
from rdkit import Chem

import guided
from guided.samplers import SVDD


def pin(model: guided.Diffusion, scaffold: str) -> guided.Diffusion:
    """The model with the scaffold's tokens at the first positions, and the other positions free."""
    row = model.encode(scaffold)
    return model.pinned(torch.where(row == 0, model.process.mask, row))  # token 0 is padding


def main() -> None:
    """Draws, checks and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scaffold",
        default="O=C(Nc1ccccc1)c1ccccc1",
        help="SMILES of the scaffold; the molecule grows from its last atom",
    )
    parser.add_argument("--n", type=int, default=16)
    options = parser.parse_args()

    model = pin(guided.load("molecules"), options.scaffold)
    core = Chem.MolFromSmiles(options.scaffold)
    reward = ["qed", f"substructure?smarts={Chem.MolToSmarts(core)}"]  # their product: 0 without the scaffold
    for sampler in ("unguided", SVDD(M=10)):
        run = guided.sample(model, reward=reward, sampler=sampler, n=options.n, aggregate="product")
        holds = [Chem.MolFromSmiles(smiles).HasSubstructMatch(core) for smiles in run.samples]
        name = sampler if isinstance(sampler, str) else "SVDD"
        print(f"{name}: median {run.rewards.median():.3f}, scaffold in {sum(holds)} of {options.n}")
        best = run.rewards.argsort(descending=True)[:3].tolist()
        print("\n".join(f"  {run.rewards[i]:.3f}  {run.samples[i]}" for i in best))


if __name__ == "__main__":
    main()
