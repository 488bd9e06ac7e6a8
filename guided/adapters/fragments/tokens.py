r"""Molecules as tokens: fragments of a tree, and pieces of several fragments.

Token 0 is the padding. Then come the sites, the fragments, whole nodes (a fragment with its entry and exits) that are
frequent, and pieces: pairs of earlier tokens, from whole nodes up, learned by byte-pair encoding. A node that has no
token of its own is spelled: its fragment, then its entry, then its exits. A row is decoded whatever it holds: sites
that do not follow a fragment, or that it does not have, are left out; a fragment alone is entered at its first site.
"""

__all__ = ["FragmentTokens"]

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from guided.adapters.fragments.fragment import Fragment, Node
from guided.adapters.fragments.tree import Trees, written
from guided.adapters.pieces import canonical, merged, padded
from guided.errors import GuidedError

Whole = tuple[int, int, tuple[int, ...]]  # the number of a fragment, its entry and its exits


class _Unknown(GuidedError):
    """A fragment that the model does not know, and how many it knows."""


@dataclass(frozen=True)
class FragmentTokens:
    """Encodes a SMILES as `L` tokens, and decodes them. Token `V` is the mask.

    Args:
        sites: The number of sites that a fragment may have.
        fragments: The SMILES of the fragments.
        nodes: The nodes with a token of their own.
        merges: The pairs of tokens that became one, in the order in which they were learned.
        length: The number of tokens `L`.

    Raises:
        GuidedError: A fragment is no molecule or is there twice, or a node has sites that its fragment does not have.
    """

    sites: int
    fragments: tuple[str, ...]
    nodes: tuple[Whole, ...]
    merges: tuple[tuple[int, int], ...]
    length: int

    def __post_init__(self) -> None:
        if len(set(self.fragments)) < len(self.fragments):
            raise GuidedError("a fragment is there twice")
        parts = list(self._parts.values())
        for number, entry, exits in self.nodes:
            hydrogens = parts[number].hydrogens
            if any(site >= len(hydrogens) or (entry, *exits).count(site) > hydrogens[site] for site in (entry, *exits)):
                raise GuidedError(f"the fragment {self.fragments[number]} has no sites {[entry, *exits]}")

    @property
    def vocabulary(self) -> int:
        return self._merged + len(self.merges)

    @property
    def _whole(self) -> int:
        """The first token that is a node."""
        return 1 + self.sites + len(self.fragments)

    @property
    def _merged(self) -> int:
        """The first token that is a pair of others."""
        return self._whole + len(self.nodes)

    @cached_property
    def _parts(self) -> dict[str, Fragment]:
        """All fragments by their SMILES, checked."""
        return {smiles: Fragment(smiles) for smiles in self.fragments}

    @cached_property
    def _pieces(self) -> list[tuple[int, ...]]:
        """The tokens below the merged ones that each token stands for."""
        pieces: list[tuple[int, ...]] = [(i,) for i in range(self._merged)]
        for left, right in self.merges:
            pieces.append(pieces[left] + pieces[right])
        return pieces

    @cached_property
    def _ranks(self) -> dict[tuple[int, int], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _ids(self) -> dict[Node, int]:
        return {Node(self.fragments[i], entry, exits): n for n, (i, entry, exits) in enumerate(self.nodes, self._whole)}

    @cached_property
    def _trees(self) -> Trees:
        """Writes molecules of the known fragments as trees."""
        known = {canonical(smiles): smiles for smiles in self.fragments}

        def fragment(smiles: str) -> Fragment:
            if smiles not in known:
                raise _Unknown(f"{smiles}, which the model does not know; it knows {len(known)} others")
            return self._parts[known[smiles]]

        return Trees(fragment)

    def encode(self, smiles: str) -> list[int]:
        """The tokens of one molecule, without padding. A `*` is where the molecule may grow.

        Raises:
            GuidedError: The molecule cannot be written in the fragments that the model knows.
        """
        try:
            nodes = self._trees.nodes(canonical(smiles))
        except _Unknown as error:
            raise GuidedError(f"{smiles!r} has the fragment {error}") from error
        if "*" not in smiles and canonical(written(nodes, self._parts.__getitem__)) != canonical(smiles):
            raise GuidedError(f"{smiles!r} has charges, isotopes or stereo centres, which the model does not know")
        return self.tokens(nodes)

    def tokens(self, nodes: Sequence[Node]) -> list[int]:
        """The tokens of a tree.

        Raises:
            KeyError: There is no such fragment or site.
        """
        ids: list[int] = []
        for node in nodes:
            ids += [self._ids[node]] if node in self._ids else self._spelled(node)
        return self.merge(ids)

    def _spelled(self, node: Node) -> list[int]:
        """A node, site by site."""
        sites = (node.entry, *node.exits)
        if max(sites) >= self.sites:
            raise GuidedError(f"the fragment {node.fragment} is used at site {max(sites)} of {self.sites}")
        return [1 + self.sites + self._numbers[node.fragment], *(1 + site for site in sites)]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {smiles: i for i, smiles in enumerate(self.fragments)}

    def merge(self, ids: list[int]) -> list[int]:
        """Applies the merges, the first learned first."""
        return merged(ids, self._ranks, self._merged)

    def pad(self, ids: Sequence[int]) -> Tensor:
        """The tokens, padded, with shape `(L,)`.

        Raises:
            GuidedError: There are more than `L`.
        """
        return padded(ids, self.length)

    def read(self, ids: Sequence[int]) -> list[Node]:
        """The nodes of a row of tokens; padding is left out wherever it stands."""
        nodes: list[tuple[str, list[int]]] = []
        spelled = False
        for i in (part for token in ids for part in self._pieces[token]):
            if i >= self._whole:
                number, entry, exits = self.nodes[i - self._whole]
                nodes.append((self.fragments[number], [entry, *exits]))
            elif i > self.sites:
                nodes.append((self.fragments[i - 1 - self.sites], []))
            elif i > 0 and spelled:
                nodes[-1][1].append(i - 1)
            spelled = self.sites < i < self._whole or (spelled and i <= self.sites)
        return [Node(smiles, sites[0] if sites else 0, tuple(sites[1:])) for smiles, sites in nodes]

    def smiles(self, ids: Sequence[int]) -> str:
        """The SMILES of one row of tokens, not canonical."""
        return written(self.read(ids), self._parts.__getitem__)
