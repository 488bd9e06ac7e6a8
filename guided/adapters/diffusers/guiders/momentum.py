"""The running averages of a guider with momentum: one for each row, from one step to the next.

Rows are those of a block of requests, in their order, which stays the same as long as nothing branches: as many rows at
each step, and the step before was the last. The averages of a step are computed from those of the one before, which
stay: rows that are asked twice, as after running out of memory, count once.
"""

__all__ = ["Momentum", "branching"]

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from guided.core.batching import Rows
from guided.errors import GuidedError


def branching(name: str, entry: str) -> str:
    """Why a guider with momentum has no candidates, and what to do."""
    return (
        f"guider {name!r} keeps a running average from step to step, and where candidates branch it would be another "
        f"particle's; set {entry} to None (null on the command line), or sample with unguided or best-of-n"
    )


class Momentum:
    """Averages with shape `(n, *event)`: those of the step before, and those of this one.

    Args:
        reason: Why nothing may branch.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self._step, self._n = -1, 0
        self._before: Tensor | None = None
        self._after: Tensor | None = None

    @contextmanager
    def kept(self, guider: Any, step: int, rows: Rows, n: int) -> Iterator[None]:
        """Inside, a guider has the averages of some rows of the step before; afterwards theirs are kept.

        Args:
            guider: The guider, told the step.
            step: The step.
            rows: Which of the rows it is asked for.
            n: The number of all rows.

        Raises:
            GuidedError: The rows are not those of the step before.
        """
        self._turn(step, n)
        buffer = guider.momentum_buffer
        buffer.running_average = 0 if self._before is None else self._before[rows]
        yield
        average = buffer.running_average
        if isinstance(average, Tensor):
            self._after = average.new_zeros(n, *average.shape[1:]) if self._after is None else self._after
            self._after[rows] = average

    def keep(self, rows: Tensor) -> None:
        """Only these of the rows go on, with shape `(n,)`: the averages of the others are dropped."""
        if self._after is not None:
            self._before, self._after, self._n = None, self._after[rows], len(rows)

    def _turn(self, step: int, n: int) -> None:
        """Goes on to a step, unless this is it already."""
        if step == 0 and (self._step != 0 or n != self._n):  # another run
            self._before = self._after = None
        elif n != self._n or step not in (self._step, self._step + 1):
            raise GuidedError(self.reason)
        elif step != self._step:
            self._before, self._after = self._after, None
        self._step, self._n = step, n
