r"""Evaluation of many rows: duplicates once, at most `size` at a time.

This is the only module that knows about micro-batches; everything else sees one large batch.

Libraries choose how to add up by the shape of a batch, so the last digits of a row depend on how many rows are
evaluated together, though not on which ones or on its place among them. With `least = size` every batch has one shape,
and a row's output does not depend on the others at all, to the last bit.
"""

__all__ = ["Evaluator", "Rows", "any_of", "distinct"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from guided.core.hashing import row_hash
from guided.errors import GuidedError, out_of_memory

#: Some of many rows: a slice, or their positions, with shape `(m,)`.
Rows: TypeAlias = slice | Tensor

ROUND = 16  # rows that a library shares out among threads as it does those of all


@dataclass
class Evaluator:
    """Where and in what micro-batches a function is applied to many rows. Out of memory, it halves the micro-batch
    and goes on.

    Args:
        size: The number of rows that the function gets at a time, or None for all at once.
        device: Where the rows are.
        least: The number of rows that the function gets at least, where there are any: fewer are filled up with copies
            of the last one, and their outputs are dropped.
        even: Whether micro-batches are of nearly the same size, a multiple of 16 rows, instead of full ones and a
            rest. Libraries add up a handful of rows, or an odd number, in another order than many.

    Raises:
        GuidedError: The size or the least number is below 1, or the latter above the former.
    """

    size: int | None = None
    device: torch.device = torch.device("cpu")
    least: int = 1
    even: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise GuidedError(f"the micro-batch is {self.size} rows; it must be at least 1")
        if not 1 <= self.least <= (self.size or self.least):
            raise GuidedError(f"micro-batches have at least {self.least} rows; it must be from 1 to {self.size}")

    def __call__(self, fn: Callable[[Rows], Tensor], n: int, count: Callable[[int], None] | None = None) -> Tensor:
        """Args:
            fn: Maps some of the rows to their outputs, with shape `(m, *)`.
            n: The number of rows.
            count: Called after each micro-batch with the number of its rows, copies left out.

        Returns:
            The outputs, with shape `(n, *)`.
        """
        whole: Tensor | None = None
        done = 0
        while done < n or whole is None:
            stop = done + self._next(n - done)
            try:
                part = fn(self._filled(done, stop))[: stop - done]
                if stop - done == n:
                    whole = part
                else:
                    whole = (
                        part.new_empty(n, *part.shape[1:]) if whole is None else whole
                    )  # no second copy of large outputs
                    whole[done:stop] = part
            except (RuntimeError, MemoryError) as error:
                self._halve(error, stop - done)
                continue
            if count is not None:
                count(stop - done)
            done = stop
        return whole

    def _next(self, left: int) -> int:
        """The number of rows of the next micro-batch."""
        if self.size is None or left <= self.size:
            return left
        if not self.even:
            return self.size
        rows = -(-left // -(-left // self.size))
        return min(self.size, -(-rows // ROUND) * ROUND)

    def _filled(self, start: int, stop: int) -> Rows:
        """The rows from `start` to `stop`, filled up to the least number."""
        if not 0 < stop - start < self.least:
            return slice(start, stop)
        return torch.arange(start, start + self.least, device=self.device).clamp(max=stop - 1)

    def _halve(self, error: Exception, rows: int) -> None:
        """Makes micro-batches smaller; raises the error again if that cannot help."""
        rows = max(rows, self.least)
        if not out_of_memory(error) or rows <= 1:
            raise error
        self.size = rows // 2
        self.least = min(self.least, self.size)


def distinct(x: Tensor, group: Tensor | None = None, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Finds the distinct rows, by a hash and a comparison with the row that was found; the host waits once.

    Args:
        x: Rows of whole numbers, with shape `(n, *event)`.
        group: The group of each row, with shape `(n,)`; rows of different groups are different.
        among: Which of the rows count, with shape `(n,)`; None for all.

    Returns:
        The positions `first` of one of each set of equal rows, with shape `(u,)`, and `inverse`, with shape `(n,)`,
        such that `x == x[first][inverse]` for the rows that count.
    """
    n, x = len(x), x.flatten(1)
    hashes = row_hash(x, group) >> 1  # so that no hash is the number of the rows that do not count
    hashes = hashes if among is None else torch.where(among, hashes, _LAST)
    order = hashes.sort(stable=True)
    new = torch.ones(n, dtype=torch.bool, device=x.device)
    new[1:] = order.values[1:] != order.values[:-1]
    new &= order.values != _LAST
    number = (new.cumsum(0) - 1).clamp(min=0)
    inverse = torch.empty_like(number).scatter_(0, order.indices, number)
    first = torch.zeros(n + 1, dtype=torch.long, device=x.device)
    first.scatter_(0, torch.where(new, number, n), order.indices)
    equal = ~any_of(x != x[first[inverse]])
    if group is not None:
        equal &= group == group[first[inverse]]
    if among is not None:
        equal |= ~among
    count, proved = torch.stack([new.sum(), equal.all().long()]).tolist()
    return (first[:count], inverse) if proved else _distinct_by_rows(x, group, among)


def any_of(x: Tensor) -> Tensor:
    """Whether any of the truth values of each row holds, `(n, *)` to `(n,)`; torch's own takes six times as long."""
    return x.flatten(1).view(torch.uint8).amax(1).bool() if x[0:1].numel() else x.flatten(1).any(1)


_LAST = 2**63 - 1


def _distinct_by_rows(x: Tensor, group: Tensor | None, among: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same without a hash, for two rows that share theirs."""
    keys = x.long() if group is None else torch.cat([group[:, None], x.long()], dim=1)
    counted = torch.arange(len(x), device=x.device) if among is None else among.nonzero()[:, 0]
    unique, index = torch.unique(keys[counted], dim=0, return_inverse=True)
    first = index.new_full((len(unique),), len(x)).scatter_reduce_(0, index, counted, "amin")
    return first, index.new_zeros(len(x)).index_put((counted,), index)
