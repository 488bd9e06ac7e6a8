"""Cuts molecules into fragments."""

__all__ = ["bare", "cut"]

from functools import lru_cache
from typing import Any


def cut(molecule: Any) -> tuple[list[str], list[list[tuple[int, int]]]]:
    """Cuts the single bonds outside rings of a molecule of RDKit.

    Returns:
        The parts, in the order of their first atoms, as SMILES with a `*` at each cut bond; and for each part and each
        `*` of it, in the order of the SMILES, the part and the `*` at the other end.
    """
    from rdkit import Chem

    single = Chem.BondType.SINGLE
    bonds = [b.GetIdx() for b in molecule.GetBonds() if b.GetBondType() == single and not b.IsInRing()]
    parts = Chem.FragmentOnBonds(molecule, bonds, dummyLabels=[(0, 0)] * len(bonds)) if bonds else molecule
    texts = Chem.MolToSmiles(parts).split(".")
    order = list(parts.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"])
    part_of = {atom: i for i, atoms in enumerate(Chem.GetMolFrags(parts)) for atom in atoms}
    patterns = [""] * len(texts)
    ends: list[list[int]] = [[] for _ in texts]
    for i, text in zip(dict.fromkeys(part_of[atom] for atom in order), texts, strict=True):
        patterns[i] = text
    first = molecule.GetNumAtoms()  # the ends of cut bond i are the atoms first + 2 i and first + 2 i + 1
    for atom in order:
        if atom >= first:
            ends[part_of[atom]].append(atom)
    place = {atom: (i, n) for i, found in enumerate(ends) for n, atom in enumerate(found)}
    return patterns, [[place[first + ((atom - first) ^ 1)] for atom in found] for found in ends]


@lru_cache(maxsize=200_000)
def bare(pattern: str) -> tuple[Any, list[int]]:
    """The molecule with hydrogen in place of every `*`, and the atom that each `*` is bonded to."""
    from rdkit import Chem

    molecule = Chem.RWMol(Chem.MolFromSmiles(pattern))
    stars = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]
    bonded = [star.GetNeighbors()[0] for star in stars]
    for i, atom in enumerate(bonded):
        atom.SetProp("bonds", f"{atom.GetProp('bonds') if atom.HasProp('bonds') else ''} {i}")
    for star in stars:
        star.SetAtomicNum(1)
    Chem.SanitizeMol(molecule)
    clean = Chem.RemoveHs(molecule)
    at = [0] * len(stars)
    for atom in clean.GetAtoms():
        for i in atom.GetProp("bonds").split() if atom.HasProp("bonds") else ():
            at[int(i)] = atom.GetIdx()
    return clean, at
