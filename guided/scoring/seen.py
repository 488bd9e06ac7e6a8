"""Which rows of tokens have been scored, found without looking at one row after the other.

Rows are sorted by a 64-bit hash (:mod:`guided.core.hashing`), and those with one hash are compared, so that rows are
taken for equal only if they are. Two that differ and share a hash, one pair in :math:`10^{19}`, are both scored.
"""

__all__ = ["SeenRows"]

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guided.core.batching import any_of
from guided.core.hashing import row_hash

MOST = 2**29  # bytes of rows; then all are forgotten
LEAST = 1024  # rows that there is room for at first


class SeenRows:
    """Rows in the order in which they were first seen, on their device.

    Args:
        tokens: The number of tokens that rows are made of.
    """

    def __init__(self, tokens: int) -> None:
        self._type = next(kind for kind in (torch.uint8, torch.int16, torch.int32, torch.int64) if _holds(kind, tokens))
        self._n = 0
        self._rows = self._group = self._hashes = self._places = torch.empty(0, device="cpu")

    def __len__(self) -> int:
        return self._n

    def find(self, x: Tensor, group: Tensor | None = None) -> tuple[NDArray[np.int64], Tensor]:
        """The number of each row, with shape `(n,)`, and the positions of the rows that are new, with shape `(m,)`.

        New rows get the next numbers, in order; equal ones share one. Waits for the device once.

        Args:
            x: The rows, with shape `(n, *event)`.
            group: The group of each row, with shape `(n,)`; rows of different groups are different.
        """
        group = torch.zeros(len(x), dtype=torch.long, device=x.device) if group is None else group
        h, x = row_hash(x, group), x.flatten(1).to(self._type)
        if self._n == 0 or self._rows.shape[1] != x.shape[1] or self._rows.numel() * self._rows.itemsize > MOST:
            self._empty(x)
        place = torch.arange(len(x), device=x.device)
        leader = self._leaders(x, group, h, place)
        known = self._known(x, group, h)
        new = (known < 0) & (leader == place)
        code = torch.where(known >= 0, known, ~leader).cpu().numpy()  # the one time that the device is waited for
        fresh = np.flatnonzero(code == ~np.arange(len(x)))
        first = (~new).to(torch.uint8).sort(stable=True).indices[: len(fresh)]  # the same, without an upload
        number = np.zeros(len(x), dtype=np.int64)
        number[fresh] = self._n + np.arange(len(fresh))
        number = np.where(code >= 0, code, number[np.where(code < 0, ~code, 0)])
        self._add(x.index_select(0, first), group[first], h[first])
        return number, first

    def _empty(self, x: Tensor) -> None:
        self._n = 0
        self._rows = x.new_empty(LEAST, x.shape[1])
        self._group = x.new_empty(LEAST, dtype=torch.long)
        self._hashes = self._places = x.new_empty(0, dtype=torch.long)

    def _known(self, x: Tensor, group: Tensor, h: Tensor) -> Tensor:
        """The number of each row that was seen before; -1 for the others."""
        if self._n == 0:
            return torch.full_like(h, -1)
        at = torch.searchsorted(self._hashes, h).clamp(max=self._n - 1)
        number = self._places[at]
        other = any_of(self._rows.index_select(0, number) != x)
        return torch.where((self._hashes[at] == h) & (self._group[number] == group) & ~other, number, -1)

    def _leaders(self, x: Tensor, group: Tensor, h: Tensor, place: Tensor) -> Tensor:
        """The position of the first row that is equal to each."""
        hashes, order = h.sort(stable=True)
        starts = torch.ones_like(hashes, dtype=torch.bool)
        torch.ne(hashes[1:], hashes[:-1], out=starts[1:])
        run = torch.where(starts, place, 0).cummax(0).values
        leader = torch.empty_like(order).scatter_(0, order, order[run])
        other = any_of(x != x.index_select(0, leader))
        return torch.where(other | (group != group[leader]), place, leader)

    def _add(self, x: Tensor, group: Tensor, h: Tensor) -> None:
        n, m = self._n, len(x)
        if n + m > len(self._rows):
            room = max(2 * len(self._rows), n + m)
            self._rows, self._group = (_grown(old, n, room) for old in (self._rows, self._group))
        self._rows[n : n + m], self._group[n : n + m] = x, group
        hashes, order = h.sort()
        at = torch.searchsorted(self._hashes, hashes) + torch.arange(m, device=h.device)
        old = torch.ones(n + m, dtype=torch.bool, device=h.device).index_fill_(0, at, False)
        self._hashes = _merged(self._hashes, hashes, old, at)
        self._places = _merged(self._places, n + order, old, at)
        self._n = n + m


def _holds(kind: torch.dtype, tokens: int) -> bool:
    return tokens - 1 <= torch.iinfo(kind).max


def _grown(rows: Tensor, n: int, room: int) -> Tensor:
    """The first `n` rows, with room for more."""
    grown = rows.new_empty(room, *rows.shape[1:])
    grown[:n] = rows[:n]
    return grown


def _merged(one: Tensor, other: Tensor, places: Tensor, at: Tensor) -> Tensor:
    """`one` where `places` says so, in order, and `other` at its positions."""
    return other.new_empty(len(places)).masked_scatter_(places, one).index_copy_(0, at, other)
