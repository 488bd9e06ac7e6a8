"""Rows of tokens as texts."""

__all__ = ["Texts"]

from typing import Any

from torch import Tensor

from guided.core.blocks import Blocks

KEPT = 4096  # texts: those of finished samples are asked for at every step


class Texts:
    """Decodes rows up to their first end; masked tokens are left out.

    Args:
        tokenizer: The pipeline's; None for numbers that are separated by spaces.
        process: The process.
        end: The token that ends a text; None for none.
    """

    def __init__(self, tokenizer: Any, process: Blocks, end: int | None) -> None:
        self.tokenizer, self.end = tokenizer, end
        self.length, self.mask = process.length, process.mask
        self._known: dict[tuple[int, ...], str] = {}

    def __call__(self, x: Tensor) -> list[str]:
        """The texts of rows, with shape `(n, event)`."""
        rows = [self._cut(row) for row in x[:, : self.length].tolist()]
        if len(self._known) > KEPT:
            self._known.clear()
        for row in rows:
            if row not in self._known:
                self._known[row] = self._decoded(row)
        return [self._known[row] for row in rows]

    def _cut(self, row: list[int]) -> tuple[int, ...]:
        stop = row.index(self.end) + 1 if self.end in row else len(row)
        return tuple(token for token in row[:stop] if token != self.mask)

    def _decoded(self, row: tuple[int, ...]) -> str:
        if self.tokenizer is None:
            return " ".join(map(str, row))
        return str(self.tokenizer.decode(list(row), skip_special_tokens=True))
