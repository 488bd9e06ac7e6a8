"""The processes that draw, behind one interface: on this machine, started by a launcher, or on a cluster."""

__all__ = ["Group"]

from collections.abc import Hashable, Sequence
from typing import Protocol

from guided.distributed.messages import Event, Task


class Group(Protocol):
    """Processes that load a run and draw blocks of it. A process that ends is replaced where that is possible."""

    @property
    def size(self) -> int:
        """How many processes there are, or will be."""

    @property
    def device(self) -> str:
        """The type of their devices: "cpu", "cuda", ..."""

    def prepare(self, setup: bytes) -> None:
        """Takes what a process loads at its start (:mod:`guided.distributed.setup`)."""

    def start(self, n: int) -> None:
        """Starts processes until there are `n`, or all."""

    def idle(self) -> Sequence[Hashable]:
        """The processes that wait for a block."""

    def give(self, worker: Hashable, task: Task) -> None:
        """Gives an idle process a block. One that has ended meanwhile is an event, no error."""

    def events(self) -> Sequence[tuple[Hashable, Event]]:
        """Waits until something happens, and says what.

        Raises:
            GuidedError: Processes end before they can draw.
        """

    def close(self, patient: bool = True) -> None:
        """Ends the processes; `start` may be called again.

        Args:
            patient: Whether idle processes may end by themselves.
        """
