"""Molecules around a scaffold: its tokens are pinned, the model fills in the rest, the reward decides.

    python examples/scaffold.py --scaffold "O=C(Nc1ccccc1)c1ccccc1"

The molecule grows from the last atom of the SMILES. Pinned tokens stay in every sample, and with tokens that are
fragments so does the scaffold. With pieces of SELFIES (`molecules_selfies`) what follows them may still close a ring
with the scaffold's atoms, so that a few molecules in a hundred do not contain it any more. A term of the reward
requires it, and the example counts how many contain it.
"""

import argparse

import torch
from rdkit import Chem, rdBase

import guided
from guided.errors import GuidedError, check_number, one_line
from guided.samplers import SVDD


def pin(model: guided.Diffusion, scaffold: str) -> guided.Diffusion:
    """The model with the scaffold's tokens at the first positions, and the other positions free."""
    row = model.encode(f"{scaffold}*")  # * is where the molecule grows
    return model.pinned(torch.where(row == 0, model.process.mask, row))  # token 0 is padding


def molecule(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES, which may have a bond to another atom at its end.

    Raises:
        GuidedError: It is none.
    """
    with rdBase.BlockLogs():
        core = Chem.MolFromSmiles(smiles) if Chem.MolFromSmiles(f"{smiles}*") else None
    if core is None or not core.GetNumAtoms():
        raise GuidedError(
            f"--scaffold is {smiles!r}; it must be the SMILES of a molecule whose last atom can be bonded"
        )
    return core


def arguments() -> argparse.Namespace:
    """The command's options, checked before the model is loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scaffold",
        default="O=C(Nc1ccccc1)c1ccccc1",
        help="SMILES of the scaffold; the molecule grows from its last atom",
    )
    parser.add_argument("--n", type=int, default=16)
    options = parser.parse_args()
    check_number("--n", options.n, int, least=1)
    options.core = molecule(options.scaffold)
    return options


def compare(options: argparse.Namespace) -> None:
    """Draws without and with guidance, counts the scaffolds and prints the best molecules."""
    model, core = pin(guided.load("molecules"), options.scaffold), options.core
    reward = ["qed", f"substructure?smarts={Chem.MolToSmarts(core)}"]  # their product: 0 without the scaffold
    for sampler in ("unguided", SVDD(M=10)):
        run = guided.sample(model, reward=reward, sampler=sampler, n=options.n, aggregate="product")
        holds = [Chem.MolFromSmiles(smiles).HasSubstructMatch(core) for smiles in run.samples]
        name = sampler if isinstance(sampler, str) else "SVDD"
        print(f"{name}: median {run.rewards.median():.3f}, scaffold in {sum(holds)} of {options.n}")
        best = run.rewards.argsort(descending=True)[:3].tolist()
        print("\n".join(f"  {run.rewards[i]:.3f}  {run.samples[i]}" for i in best))


def main() -> None:
    """Draws, checks and prints."""
    with one_line():
        compare(arguments())


if __name__ == "__main__":
    main()
