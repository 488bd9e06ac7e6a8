"""Processes that a launcher has started, on one machine or several: `accelerate launch -m guided sample ...`, torchrun.

Rank 0 writes the run and hands out the blocks; its own device is drawn on by a process that it starts. All other ranks
draw. They find rank 0 by the launcher's store, and talk to it over a socket with a key that the store holds.
"""

__all__ = ["Launched", "joined"]

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Client, Connection
from typing import Any

import torch

from guided.distributed.connections import Member
from guided.distributed.door import Door
from guided.distributed.drawing import Drawing
from guided.distributed.processes import Local
from guided.distributed.worker import serve
from guided.errors import GuidedError
from guided.loading import resolve_device
from guided.runs.config import RunConfig
from guided.runs.options import spelled

KEY = "guided/rank0"  # in the store
POLL = 0.1  # seconds
IDLE, BETWEEN, PROBES = 30, 10, 3  # seconds until a silent machine is asked for a sign of life, between asking; times


@contextmanager
def joined(config: RunConfig) -> Iterator[RunConfig | None]:
    """The description for this process: as it is if no launcher has started several, with an executor for rank 0.

    In other ranks it yields None, after they have drawn what rank 0 gave them.

    Raises:
        GuidedError: The description names devices or a cluster besides.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield config
        return
    given = config.places
    if given.devices is not None or given.cluster is not None:
        name = spelled("cluster" if given.devices is None else "devices")
        raise GuidedError(f"{name} is for one process, and a launcher has started {world}; leave it out")
    if rank:
        _serve(_store(), device_of(config.source.device))
        yield None
        return
    with closing(Launched(_store(), world, device_of(config.source.device))) as executor:
        yield replace(config, places=replace(given, cluster=executor))


def device_of(device: str) -> str:
    """The device of this rank: of several GPUs the one with its local rank."""
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    return f"cuda:{local % there}" if there and device in ("auto", "cuda") else str(resolve_device(device))


def _store() -> Any:
    import torch.distributed

    store, _, _ = next(torch.distributed.rendezvous("env://"))  # type: ignore[attr-defined]
    return store


def _serve(store: Any, device: str) -> None:
    """Draws for rank 0, until it has no more blocks or is gone. A rank that comes when the run is over leaves."""
    while not store.check([KEY]):
        time.sleep(POLL)
    while address := json.loads(store.get(KEY)):
        try:
            line = Client((address["host"], address["port"]), authkey=bytes.fromhex(address["key"]))
        except (OSError, EOFError):
            if json.loads(store.get(KEY)):  # the run is not over: rank 0 cannot be reached
                raise
            return
        with line:
            _keep_alive(line)
            serve(line, device, 0)
        return


class Launched(Drawing):
    """Draws with the ranks of a launcher. Rank 0 has it."""

    def __init__(self, store: Any, world: int, device: str) -> None:
        super().__init__(Ranks(store, world, device))


class Ranks(Local):
    """The ranks, as a group: a process of this machine for rank 0, and connections from the others."""

    def __init__(self, store: Any, world: int, device: str) -> None:
        super().__init__([device])
        self.threads = 0  # the launcher's choice
        self.store, self.world = store, world
        self.door: Door | None = None

    @property
    def size(self) -> int:
        """How many processes there are, or will be."""
        return self.world

    def start(self, n: int) -> None:
        """Starts the process for rank 0, and invites the other ranks."""
        super().start(1)
        if self.door is None:
            self.door = Door(os.environ.get("MASTER_ADDR", "localhost"))
            self.store.set(KEY, json.dumps(self.door.address))

    def waited(self) -> list[Any]:
        """What `events` waits for: also the ranks that arrive."""
        return [*super().waited(), *([self.door.bell] if self.door else [])]

    def events(self) -> Sequence[Any]:
        """Waits for messages and for ranks."""
        found = super().events()
        self._admit()
        return found

    def _admit(self) -> None:
        for line in self.door.arrived() if self.door else []:
            _keep_alive(line)
            self.members.append(Rank(line, "rank"))
            self.members[-1].send(self.setup)

    def replace(self, member: Member, why: str) -> None:
        """Starts a process in place of that of rank 0; the launcher looks after the others."""
        if member.device in self.devices:
            super().replace(member, why)

    def close(self, patient: bool = True) -> None:
        """Ends the processes, and lets ranks go that were never invited or come too late."""
        with suppress(RuntimeError):  # the launcher is gone
            self.store.set(KEY, json.dumps(None))
        self._admit()
        super().close(patient)
        if self.door is not None:
            self.door.close()


class Rank(Member):
    """A rank that has connected. At the end it leaves by itself, also if it is still loading the run."""

    def end(self, patient: bool) -> None:
        """Ends it."""
        if patient:
            self.send(None)
        self.line.close()


def _keep_alive(line: "Connection[Any, Any]") -> None:
    """Has the end of a machine without a word seen, as after a power cut."""
    with socket.socket(fileno=os.dup(line.fileno())) as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", IDLE), ("TCP_KEEPINTVL", BETWEEN), ("TCP_KEEPCNT", PROBES)):
            if hasattr(socket, name):
                place.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
