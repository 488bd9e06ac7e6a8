"""A group of processes at the other ends of connections: pipes of this machine, sockets of others."""

__all__ = ["Connections", "Member"]

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

import cloudpickle

from guided.distributed.messages import Done, Event, Failed, Lost, Ready, Task
from guided.errors import GuidedError

Line: TypeAlias = "Connection[Any, Any]"


@dataclass(eq=False)
class Member:
    """A process at the other end of a connection.

    Attributes:
        line: The connection.
        device: Its device.
        ready: Whether it has loaded the run.
        free: Whether it waits for a block.
    """

    line: Line
    device: str
    ready: bool = False
    free: bool = False

    def send(self, message: object) -> None:
        """Sends a message; whoever has ended meanwhile is seen as lost when messages are received."""
        with suppress(OSError):
            self.line.send_bytes(cloudpickle.dumps(message))

    def ended(self) -> str:
        """How it ended, in words."""
        return "is gone"

    def end(self, patient: bool) -> None:
        """Ends it.

        Args:
            patient: Whether it may end by itself, if it is idle.
        """
        if patient and self.free:
            self.send(None)
        self.line.close()


class Connections:
    """The processes, as a group. Classes below this one start them.

    Attributes:
        members: The processes.
    """

    device = "cpu"

    def __init__(self) -> None:
        self.setup = b""
        self.members: list[Member] = []

    def prepare(self, setup: bytes) -> None:
        """Takes what a process loads at its start."""
        self.setup = setup

    def idle(self) -> Sequence[Hashable]:
        """The processes that wait for a block."""
        return [member for member in self.members if member.free]

    def give(self, worker: Hashable, task: Task) -> None:
        """Gives an idle process a block."""
        assert isinstance(worker, Member)
        worker.free = False
        worker.send(task)

    def events(self) -> Sequence[tuple[Hashable, Event]]:
        """Waits for messages.

        Raises:
            GuidedError: No process is left, or processes end before they can draw.
        """
        if not self.members:
            raise GuidedError("all processes that draw have ended")
        ready = set(wait(self.waited()))
        return [(member, self._received(member)) for member in list(self.members) if member.line in ready]

    def waited(self) -> list[Any]:
        """What `events` waits for."""
        return [member.line for member in self.members]

    def _received(self, member: Member) -> Event:
        try:
            event: Event = member.line.recv()
        except (EOFError, OSError):
            self.members.remove(member)
            why = member.ended()
            self.replace(member, why)
            return Lost(why)
        member.ready = member.ready or isinstance(event, Ready)
        member.free = member.ready and isinstance(event, Ready | Done | Failed)
        return event

    def replace(self, member: Member, why: str) -> None:
        """Called when a process has ended."""

    def close(self, patient: bool = True) -> None:
        """Ends the processes."""
        members, self.members = self.members, []
        for member in members:
            member.end(patient)
