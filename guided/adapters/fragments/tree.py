r"""Molecules as trees of fragments, written parent first.

Every single bond outside rings is cut. What is left are ring systems with the double bonds at them, other atoms that
are held together by multiple bonds, and single atoms. They form a tree. It is written from one of its hydrogens: a
fragment, the site that it is entered at and the sites that it is left from, then what hangs at each of those, in turn.
The number of children of a fragment is known when it is read, so that no brackets are needed.

Every sequence of fragments is a molecule: where children are missing there is hydrogen, what exceeds the tree is
ignored. All bonds between fragments are single and take the place of a hydrogen, so no valence is exceeded, and no
ring is made that is not a fragment's.

References:
    | Group SELFIES: a robust fragment-based molecular string representation (Cheng et al., 2023)
    | https://arxiv.org/abs/2211.13322
"""

__all__ = ["Trees", "written"]

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from guided.adapters.fragments.cut import bare, cut
from guided.adapters.fragments.fragment import Fragment, Node
from guided.errors import GuidedError, shown

Order = tuple[tuple[int, ...], ...]  # the cut bonds that lead to children: a tuple for each site, in turn
HYDROGEN = -1  # in place of the cut bond that a fragment is entered by, for the first one


def written(nodes: Iterable[Node], fragment: Callable[[str], Fragment]) -> str:
    """The SMILES of a tree, not canonical; methane for an empty one."""
    bonds: list[tuple[Fragment, dict[int, list[int]]]] = []
    open_: list[tuple[int, int]] = []  # the fragment, and its site, of each child that is missing, the next one last
    for node in nodes:
        if bonds and not open_:
            break
        part = fragment(node.fragment)
        free = list(part.hydrogens)
        if bonds and not free:
            continue
        own: dict[int, list[int]] = {}
        entry = node.entry if node.entry < len(free) else 0
        if bonds:
            parent, site = open_.pop()
            bonds[parent][1].setdefault(site, []).append(len(bonds))
            own[entry] = [len(bonds)]
        left = []
        for site in (entry, *node.exits) if free else ():
            if site < len(free) and free[site]:
                free[site] -= 1
                left.append((len(bonds), site))
        open_ += left[:0:-1]
        bonds.append((part, own))
    return ".".join(part.write(own) for part, own in bonds) or "C"


class Form(NamedTuple):
    """How a fragment with cut bonds is written, and the orders of its children that are written so."""

    node: Node
    orders: list[Order]


class Trees:
    """Writes molecules as trees.

    Args:
        fragment: Maps the canonical SMILES of a fragment to it.
    """

    def __init__(self, fragment: Callable[[str], Fragment]) -> None:
        self._fragment = fragment
        self._form = lru_cache(maxsize=200_000)(self._find_form)

    def nodes(self, smiles: str) -> list[Node]:
        """The tree of a molecule. A `*` in the SMILES is the child that is missing at the end of the tree.

        Raises:
            GuidedError: It is no molecule, in several parts, without hydrogen, or has a fragment that is not known; or
                no tree has its `*` at the end.
        """
        patterns, other = cut(_molecule(smiles))
        star = patterns.index("**") if "**" in patterns else None
        toward = {} if star is None else _toward(star, other)
        for first in range(len(patterns)):
            nodes = None if first == star else self._below(first, HYDROGEN, patterns, other, toward)
            if nodes is not None:
                return nodes
        end = " and ends at its *; let it grow from another atom" if star is not None else ""
        raise GuidedError(f"{smiles!r} cannot be written as a tree that begins at a hydrogen{end}")

    def _below(
        self, part: int, entry: int, patterns: list[str], other: list[list[tuple[int, int]]], toward: dict[int, int]
    ) -> list[Node] | None:
        """The tree below a part that is entered by one of its cut bonds; None if there is none."""
        if patterns[part] == "**":
            return []
        final = next((i for i, (to, _) in enumerate(other[part]) if i != entry and to == toward.get(part)), None)
        form = self._form(patterns[part], entry, final)
        if form is None:
            return None
        below = {}
        for i, (to, bond) in enumerate(other[part]):
            if i != entry:
                child = self._below(to, bond, patterns, other, toward)
                if child is None:
                    return None
                below[i] = child
        orders = ([below[i] for i in _sorted(order, below, final)] for order in form.orders)
        children = min(orders, key=lambda order: [(len(child), child) for child in order])
        return [form.node, *(node for child in children for node in child)]

    def _find_form(self, pattern: str, entry: int, final: int | None) -> Form | None:
        """How a fragment is written: with the smallest sites of all that are equal by symmetry."""
        molecule, bonds = bare(pattern)
        part = self._fragment(_canonical(molecule))
        orders: dict[tuple[int, tuple[int, ...]], set[Order]] = {}
        for sites in part.places(molecule):
            at = [sites[atom] for atom in bonds]
            exits = [i for i in range(len(at)) if i != entry]
            order = tuple(tuple(i for i in exits if at[i] == site) for site in sorted({at[i] for i in exits}))
            if final is None or final in order[-1]:
                for begin in [at[entry]] if entry != HYDROGEN else _spare(part, at):
                    orders.setdefault((begin, tuple(sorted(at[i] for i in exits))), set()).add(order)
        if not orders:
            return None
        best = min(orders)
        return Form(Node(part.smiles, *best), sorted(orders[best]))


def _spare(part: Fragment, used: list[int]) -> list[int]:
    """The sites that have a hydrogen left."""
    return [site for site, hydrogens in enumerate(part.hydrogens) if hydrogens > used.count(site)]


def _sorted(order: Order, below: dict[int, list[Node]], final: int | None) -> list[int]:
    """The cut bonds in the order of their children: small ones first at a site, the final one last."""
    return [i for group in order for i in sorted(group, key=lambda i: (i == final, len(below[i]), below[i]))]


def _toward(star: int, other: list[list[tuple[int, int]]]) -> dict[int, int]:
    """The next part on the way from each part to the `*`."""
    toward, seen = {star: star}, [star]
    for part in seen:
        for to, _ in other[part]:
            if to not in toward:
                toward[to] = part
                seen.append(to)
    return toward


def _canonical(molecule: Any) -> str:
    from rdkit import Chem

    return str(Chem.MolToSmiles(molecule))


def _molecule(smiles: str) -> Any:
    """The molecule of a SMILES.

    Raises:
        GuidedError: It is none, or in several parts, or has more than one `*`, or one that is not at its end.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms() or len(Chem.GetMolFrags(molecule)) > 1:
        raise GuidedError(f"{shown(smiles)} is not the SMILES of one molecule")
    stars = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]
    if len(stars) > 1 or any([b.GetBondType() for b in star.GetBonds()] != [Chem.BondType.SINGLE] for star in stars):
        raise GuidedError(f"{shown(smiles)} may have one * at most, with a single bond")
    return molecule
