"""What all tokens of molecules share: pairs that became one, padding, and a decoder of rows."""

__all__ = ["Decoder", "canonical", "merged", "padded"]

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from guided.errors import GuidedError


def merged(ids: list[int], ranks: Mapping[tuple[int, int], int], first: int) -> list[int]:
    """Applies merges to tokens, the first learned first: the pair of rank `r` becomes token `first + r`."""
    never = len(ranks)
    while len(ids) > 1:
        rank, at = min((ranks.get(pair, never), i) for i, pair in enumerate(pairwise(ids)))
        if rank == never:
            break
        ids = [*ids[:at], first + rank, *ids[at + 2 :]]
    return ids


def padded(ids: Sequence[int], length: int) -> Tensor:
    """The tokens, padded, with shape `(L,)`.

    Raises:
        GuidedError: There are more than `L`.
    """
    if len(ids) > length:
        raise GuidedError(f"the molecule has {len(ids)} tokens; the model has room for {length}")
    return torch.tensor([*ids, *[0] * (length - len(ids))], device="cpu")


class Decoder:
    """Token rows, with shape `(n, L)`, to canonical SMILES; recent rows are cached.

    Args:
        smiles: A SMILES of one row.
    """

    def __init__(self, smiles: Callable[[tuple[int, ...]], str]) -> None:
        self._smiles = lru_cache(maxsize=100_000)(lambda ids: canonical(smiles(ids)))

    def __call__(self, x: Tensor) -> list[str]:
        return [self._smiles(tuple(row)) for row in x.tolist()]


def canonical(smiles: str) -> str:
    """The canonical SMILES; a string that RDKit cannot read is returned unchanged."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    return Chem.MolToSmiles(molecule) if molecule is not None else smiles
