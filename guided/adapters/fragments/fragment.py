"""Fragments: ring systems, multiple bonds and single atoms, with the places at which others may be attached.

A fragment is given by a SMILES in which hydrogen stands where a bond was cut. Its sites are its atoms with hydrogen, in
the order of the SMILES; a site may be used as often as it has hydrogens, so that no valence is ever exceeded.
"""

__all__ = ["Fragment", "Node"]

import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from guided.errors import GuidedError, shown

_ATOM = re.compile(r"\[[^\]]*\]|Br|Cl|[BCNOFPSI]|[bcnops]")
_FIRST = 10  # the number of the first bond between fragments; bonds within one have a single digit


class Node(NamedTuple):
    """A fragment in a tree: the site of the bond to its parent, and those of the bonds to its children, in order."""

    fragment: str
    entry: int
    exits: tuple[int, ...]


class Fragment:
    """A fragment and its sites.

    Args:
        smiles: Its SMILES.

    Attributes:
        hydrogens: The number of hydrogens of each site.

    Raises:
        GuidedError: RDKit cannot read the SMILES, or it is in several parts.
    """

    def __init__(self, smiles: str) -> None:
        from rdkit import Chem, rdBase

        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or not molecule.GetNumAtoms() or "." in smiles or "%" in smiles:
            raise GuidedError(f"the fragment {shown(smiles)} is no molecule")
        self.smiles, self.molecule = smiles, molecule
        free = [atom.GetTotalNumHs() for atom in molecule.GetAtoms()]
        self.hydrogens = tuple(n for n in free if n)
        self._text, self._end = self._split(smiles, free)

    @staticmethod
    def _split(smiles: str, free: Sequence[int]) -> tuple[list[tuple[str, str, int, int]], str]:
        """What stands before each atom, the atom, its site (-1 for none) and hydrogens; and what follows the last."""
        text, end, site = [], 0, 0
        for found, n in zip(_ATOM.finditer(smiles), free, strict=True):
            text.append((smiles[end : found.start()], found.group(), site if n else -1, n))
            end, site = found.end(), site + (n > 0)
        return text, smiles[end:]

    @cached_property
    def atoms(self) -> tuple[int, ...]:
        """The atoms of the sites, by their number in the SMILES."""
        return tuple(atom.GetIdx() for atom in self.molecule.GetAtoms() if atom.GetTotalNumHs())

    def places(self, molecule: Any) -> list[dict[int, int]]:
        """All ways to lay the fragment on an equal molecule of RDKit: each maps the molecule's atoms to sites."""
        ways = []
        for match in molecule.GetSubstructMatches(self.molecule, uniquify=False, maxMatches=10_000):
            if all(
                molecule.GetAtomWithIdx(to).GetTotalNumHs() == atom.GetTotalNumHs()
                for to, atom in zip(match, self.molecule.GetAtoms(), strict=True)
            ):
                ways.append({match[atom]: site for site, atom in enumerate(self.atoms)})
        return ways

    def write(self, bonds: Mapping[int, Sequence[int]]) -> str:
        """The SMILES of the fragment with numbered bonds to others at its sites."""
        text = ""
        for before, atom, site, hydrogens in self._text:
            numbers = bonds.get(site, ())
            text += before + _atom(atom, hydrogens, len(numbers))
            text += "".join(f"%{_FIRST + i}" if i < 90 else f"%({_FIRST + i})" for i in numbers)
        return text + self._end


@lru_cache(maxsize=100_000)
def _atom(text: str, hydrogens: int, bonds: int) -> str:
    """An atom of a SMILES with bonds in place of some of its hydrogens."""
    if text[0] != "[":
        return text
    left = hydrogens - bonds
    text = re.sub(r"(?<=[A-Za-z])H\d*", "" if not left else "H" if left == 1 else f"H{left}", text)
    return text[1:-1] if re.fullmatch(_ATOM, text[1:-1]) else text
