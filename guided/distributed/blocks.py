"""Which blocks are still to be drawn, and who draws which: the queue, without any process."""

__all__ = ["Blocks"]

import heapq
from collections import Counter
from collections.abc import Hashable, Iterable

from guided.errors import GuidedError

TRIES = 2  # how often a block is drawn whose process ends


class Blocks:
    """The queue of the blocks of a run. Blocks are handed out in their order, and lost ones again first.

    After a block has failed, only blocks before it are handed out: what is finished then is what one process would have
    finished.

    Args:
        blocks: The requests of each block.
    """

    def __init__(self, blocks: Iterable[list[int]]) -> None:
        self.blocks = list(blocks)
        self.drawn_by: dict[Hashable, int] = {}
        self._waiting = list(range(len(self.blocks)))  # a heap
        self._lost: Counter[int] = Counter()
        self._failed: dict[int, Exception] = {}

    @property
    def last(self) -> int:
        """Blocks from this place on are not needed: the first failed one, or the end."""
        return min(self._failed, default=len(self.blocks))

    @property
    def error(self) -> Exception | None:
        """The failure of the first failed block; None while a block before it may still fail, or if none failed."""
        return self._failed.get(self.last) if self.finished else None

    @property
    def finished(self) -> bool:
        """Whether all needed blocks are drawn."""
        return not self._needed() and all(place > self.last for place in self.drawn_by.values())

    def next(self, worker: Hashable) -> int | None:
        """Gives a worker the next block; its place, or None if there is none."""
        if not self._needed():
            return None
        place = heapq.heappop(self._waiting)
        self.drawn_by[worker] = place
        return place

    def done(self, worker: Hashable) -> int | None:
        """Notes that a worker has drawn its block; its place, or None if it was not needed any more."""
        place = self.drawn_by.pop(worker)
        return place if place < self.last else None

    def failed(self, worker: Hashable, error: Exception) -> None:
        """Notes that a worker's block cannot be drawn."""
        self._failed[self.drawn_by.pop(worker)] = error

    def lost(self, worker: Hashable, why: str) -> None:
        """Puts the block of a worker that has ended back, once; then it has failed."""
        place = self.drawn_by.pop(worker, None)
        if place is None:
            return
        self._lost[place] += 1
        if self._lost[place] < TRIES:
            heapq.heappush(self._waiting, place)
            return
        first, last = self.blocks[place][0], self.blocks[place][-1]
        self._failed[place] = GuidedError(
            f"requests {first} to {last} were given up: both processes that drew them ended, the last one {why}"
        )

    def _needed(self) -> bool:
        return bool(self._waiting) and self._waiting[0] < self.last
