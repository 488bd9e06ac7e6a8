r"""Molecules as tokens: pieces of SELFIES, learned by byte-pair encoding.

Every sequence of SELFIES symbols is a molecule, so every look-ahead can be scored, and pieces of several symbols
(a ring, an amide) make a molecule about ten tokens long instead of thirty-five.

References:
    | Self-referencing embedded strings (SELFIES): A 100% robust molecular string representation (Krenn et al., 2020)
    | https://arxiv.org/abs/1905.13741

    | Neural Machine Translation of Rare Words with Subword Units (Sennrich et al., 2016)
    | https://arxiv.org/abs/1508.07909
"""

__all__ = ["SelfiesTokens"]

from collections.abc import Sequence
from dataclasses import dataclass, field

import selfies
from torch import Tensor

from guided.adapters.pieces import merged, padded
from guided.errors import GuidedError


@dataclass(frozen=True)
class SelfiesTokens:
    """Encodes a SMILES as `L` tokens, and decodes them. Token 0 is the padding, at the end; token `V` is the mask.

    Args:
        symbols: The SELFIES symbols, tokens 1, 2, …
        merges: The pairs of tokens that became one, in the order in which they were learned; the i-th made
            token `1 + len(symbols) + i`.
        length: The number of tokens `L`.
    """

    symbols: tuple[str, ...]
    merges: tuple[tuple[int, int], ...]
    length: int
    _pieces: list[str] = field(init=False, repr=False, compare=False)
    _ranks: dict[tuple[int, int], int] = field(init=False, repr=False, compare=False)
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pieces = ["", *self.symbols]
        for left, right in self.merges:
            pieces.append(pieces[left] + pieces[right])
        object.__setattr__(self, "_pieces", pieces)
        object.__setattr__(self, "_ranks", {pair: rank for rank, pair in enumerate(self.merges)})
        object.__setattr__(self, "_ids", {symbol: i for i, symbol in enumerate(self.symbols, 1)})

    @property
    def vocabulary(self) -> int:
        return len(self._pieces)

    def encode(self, smiles: str) -> list[int]:
        """The tokens of one molecule, without padding. A `*` at the end, where it may grow, is left out.

        Raises:
            GuidedError: The molecule cannot be written in SELFIES, or has a symbol that is not in the vocabulary.
        """
        try:
            text = selfies.encoder(smiles.removesuffix("*"))
        except selfies.EncoderError as error:
            raise GuidedError(
                f"{smiles!r} cannot be written in SELFIES: {str(error).strip().splitlines()[0]}"
            ) from error
        return self.pieces(text, smiles)

    def pieces(self, text: str, name: str = "") -> list[int]:
        """The tokens of one molecule in SELFIES, without padding; messages tell its name.

        Raises:
            GuidedError: It has a symbol that is not in the vocabulary.
        """
        symbols, name = list(selfies.split_selfies(text)), name or text
        unknown = [symbol for symbol in symbols if symbol not in self._ids]
        if unknown:
            raise GuidedError(
                f"{name!r} has {unknown[0]}, which the model does not know; it knows {', '.join(self.symbols)}"
            )
        return self.merge([self._ids[symbol] for symbol in symbols])

    def merge(self, ids: list[int]) -> list[int]:
        """Applies the merges to the tokens of single symbols, the first learned first."""
        return merged(ids, self._ranks, 1 + len(self.symbols))

    def pad(self, ids: Sequence[int]) -> Tensor:
        """The tokens, padded, with shape `(L,)`.

        Raises:
            GuidedError: There are more than `L`.
        """
        return padded(ids, self.length)

    def smiles(self, ids: Sequence[int]) -> str:
        """The SMILES of one row of tokens. What follows the first padding is ignored."""
        pieces = []
        for i in ids:
            if i == 0:
                break
            pieces.append(self._pieces[i])
        smiles: str = selfies.decoder("".join(pieces))
        return smiles
