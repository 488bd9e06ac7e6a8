"""Rows of the graph process as molecules, and back.

A bond order is quantised at .5, 1.5 and 2.5. An atom is the first kind whose feature is above .5, and vanishes where
there is none. Nitrogen with four bonds and oxygen with three are cations. The molecule is valid as it is if no atom has
more bonds than RDKit permits; the correction lowers the highest bond of the first atom that has, until none is left.

What a network makes often comes in several fragments. The sample is the one with the most atoms, and what share of the
atoms it has is a column of the run, as is whether the graph was valid without correction: the score of a fragment
says nothing about the rest.
"""

__all__ = ["KINDS", "Molecules"]

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guided.core.graphs import Graphs
from guided.errors import GuidedError

#: The kinds of atoms by the number of features, as atomic numbers.
KINDS = {9: (6, 7, 8, 9, 15, 16, 17, 35, 53), 4: (6, 7, 8, 9)}

CATIONS = {7: 4, 8: 3}  # the bonds with which an atom has the charge +1
Graph = tuple[bytes, bytes]


@dataclass(frozen=True)
class Molecules:
    """The molecules of rows; recent ones are cached.

    Args:
        process: What the rows are of.
        kinds: The atomic number of each feature.
        correct: Whether bonds are lowered until no atom has too many.
        whole: Whether all fragments are kept; if not, that with the most atoms.
    """

    process: Graphs
    kinds: tuple[int, ...]
    correct: bool = True
    whole: bool = False
    _known: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", lru_cache(maxsize=100_000)(self._read))

    def smiles(self, rows: Tensor) -> list[str]:
        """Canonical SMILES of rows `(n, *event)`; "" for a graph without atoms."""
        return [self._known(graph)[0] for graph in self._graphs(rows)]

    def measures(self, rows: Tensor) -> dict[str, list[float]]:
        """Of rows `(n, *event)`: whether each is valid without correction, the fragments, and the largest's share."""
        found = [self._known(graph) for graph in self._graphs(rows)]
        return {
            "valid": [float(valid and _readable(smiles)) for smiles, valid, _, _ in found],
            "fragments": [float(fragments) for _, _, fragments, _ in found],
            "largest_share": [share for *_, share in found],
        }

    def row(self, smiles: str) -> Tensor:
        """The row of a molecule.

        Raises:
            GuidedError: RDKit cannot read it, it is too large, or it has atoms that the model does not know.
        """
        from rdkit import Chem, rdBase

        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or not molecule.GetNumAtoms():
            raise GuidedError(f"{smiles!r} is no molecule that RDKit can read")
        Chem.Kekulize(molecule, clearAromaticFlags=True)
        kinds = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
        places = self.process.places
        if len(kinds) > places or not {*kinds} <= {*self.kinds}:
            raise GuidedError(
                f"{smiles!r} has {len(kinds)} atoms of the numbers {sorted({*kinds})}; the model has room for {places} "
                f"of {list(self.kinds)}"
            )
        mask = (torch.arange(places, device="cpu") < len(kinds)).float()
        nodes, edges = torch.zeros(places, len(self.kinds), device="cpu"), torch.zeros(places, places, device="cpu")
        for i, kind in enumerate(kinds):
            nodes[i, self.kinds.index(kind)] = 1
        for bond in molecule.GetBonds():
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            edges[i, j] = edges[j, i] = bond.GetBondTypeAsDouble()
        return self.process.join(nodes, edges, mask)

    def _graphs(self, rows: Tensor) -> list[Graph]:
        """The quantised graphs of rows: atomic numbers, and bond orders of all pairs of them."""
        nodes, edges = (part.cpu().numpy() for part in self.process.split(rows))
        there = nodes > 0.5
        kinds = np.where(there.any(-1), np.array(self.kinds)[there.argmax(-1)], 0).astype(np.uint8)
        orders = (edges >= 0.5).astype(np.uint8) + (edges >= 1.5) + (edges >= 2.5)
        graphs = []
        for kind, order in zip(kinds, orders.astype(np.uint8), strict=True):
            kept = kind.nonzero()[0]
            graphs.append((kind[kept].tobytes(), order[np.ix_(kept, kept)].tobytes()))
        return graphs

    def _read(self, graph: Graph) -> tuple[str, bool, int, float]:
        """The SMILES, whether it is valid as it is, the number of fragments, and the largest one's share of atoms."""
        kinds = np.frombuffer(graph[0], np.uint8)
        orders = np.frombuffer(graph[1], np.uint8).reshape(len(kinds), len(kinds)).copy()
        if not len(kinds):
            return "", False, 0, 0.0
        valid = not len(_crowded(kinds, orders))
        if self.correct:
            _lower(kinds, orders)
        parts = _parts(orders)
        largest = max(parts, key=len)
        atoms = range(len(kinds)) if self.whole else largest
        return _smiles(kinds, orders, atoms), valid, len(parts), len(largest) / len(kinds)


def _crowded(kinds: NDArray[np.uint8], orders: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The atoms with more bonds than they may have."""
    bonds = orders.sum(1)
    most = np.array([_most(kind) for kind in kinds.tolist()])
    cations = np.array([CATIONS.get(kind, -1) for kind in kinds.tolist()]) == bonds
    return ((bonds > most) & ~cations).nonzero()[0]


def _lower(kinds: NDArray[np.uint8], orders: NDArray[np.uint8]) -> None:
    """Lowers bonds, the highest of the first crowded atom first, until there is none."""
    while len(crowded := _crowded(kinds, orders)):
        i = crowded[0]
        j = orders[i].argmax()
        orders[i, j] -= 1
        orders[j, i] -= 1


def _parts(orders: NDArray[np.uint8]) -> list[list[int]]:
    """The atoms of each fragment, in their order."""
    left, parts = set(range(len(orders))), []
    while left:
        found, new = set(), {min(left)}
        while new:
            found |= new
            new = {int(j) for i in new for j in orders[i].nonzero()[0]} - found
        parts.append(sorted(found))
        left -= found
    return parts


def _smiles(kinds: NDArray[np.uint8], orders: NDArray[np.uint8], atoms: Sequence[int]) -> str:
    """The canonical SMILES of some of the atoms; one that cannot be read where they have too many bonds."""
    from rdkit import Chem, rdBase

    molecule = Chem.RWMol()
    bonds = orders.sum(1)
    for i in atoms:
        atom = Chem.Atom(int(kinds[i]))
        atom.SetFormalCharge(int(CATIONS.get(int(kinds[i])) == bonds[i]))
        molecule.AddAtom(atom)
    places = {atom: place for place, atom in enumerate(atoms)}
    types = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    for i, j in zip(*np.triu(orders).nonzero(), strict=True):
        if i in places:
            molecule.AddBond(places[i], places[j], types[int(orders[i, j])])
    with rdBase.BlockLogs():
        if Chem.SanitizeMol(molecule, catchErrors=True):
            molecule.UpdatePropertyCache(strict=False)
        return Chem.MolToSmiles(molecule)


def _readable(smiles: str) -> bool:
    """Whether RDKit reads it: an atom may have as many bonds and yet no such kinds of them, as O=I."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles) is not None


@lru_cache(maxsize=128)
def _most(kind: int) -> int:
    """The largest number of bonds that RDKit permits to an atom without a charge."""
    from rdkit import Chem

    return max(Chem.GetPeriodicTable().GetValenceList(kind))
