"""Processes on this machine, one for each device.

Each is a fresh interpreter with a session of its own, so that Ctrl-C reaches this process only, and with a watcher that
kills it when this process is killed (:mod:`guided.sessions`). A script needs no `if __name__ == "__main__"`.
"""

__all__ = ["Local", "Processes"]

import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections import Counter
from contextlib import suppress
from multiprocessing.connection import Connection

import torch

from guided.distributed.connections import Connections, Member
from guided.distributed.drawing import Drawing
from guided.distributed.output import Output
from guided.errors import GuidedError
from guided.sessions import close, dismiss, kill, watch

GRACE = 5.0  # seconds for idle processes to end by themselves
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
TRIES = 2  # how often a process is started that ends before it can draw
_CODE = "import sys; sys.path[:] = {}; from guided.distributed.worker import main; main({}, {!r}, {})"


class Processes(Drawing):
    """Draws in processes of this machine.

    Args:
        devices: The device of each, as "cuda:1" or "cpu". Processes on CPUs share the threads.
    """

    def __init__(self, devices: list[str]) -> None:
        super().__init__(Local(devices))


class Local(Connections):
    """The processes of this machine, as a group."""

    def __init__(self, devices: list[str]) -> None:
        super().__init__()
        self.devices = devices
        self.device = torch.device(devices[0]).type
        self.threads = max(1, torch.get_num_threads() // len(devices))
        self.failed: Counter[str] = Counter()
        self.shown: Counter[str] = Counter()

    @property
    def size(self) -> int:
        """How many processes there are, or will be."""
        return len(self.devices)

    def start(self, n: int) -> None:
        """Starts processes until there are `n`, or one for each device."""
        missing = list((Counter(self.devices) - Counter(member.device for member in self.members)).elements())
        for device in missing[: max(0, n - len(self.members))]:
            self._start(device)

    def _start(self, device: str) -> None:
        worker = Worker(device, self.threads, self.shown)
        self.members.append(worker)
        worker.send(self.setup)

    def replace(self, member: Member, why: str) -> None:
        """Starts a process in place of one that has ended.

        Raises:
            GuidedError: Processes on this device end before they can draw.
        """
        self.failed[member.device] = 0 if member.ready else self.failed[member.device] + 1
        if self.failed[member.device] == TRIES:
            raise GuidedError(f"a process on {member.device} cannot be kept running: the last one {why}")
        self._start(member.device)

    def close(self, patient: bool = True) -> None:
        """Ends the processes: idle ones by a word, all others at once."""
        workers = [member for member in self.members if isinstance(member, Worker)]
        super().close(patient)
        end = time.monotonic() + GRACE
        for worker in workers:
            worker.wait(end if patient and worker.free else 0.0)


class Worker(Member):
    """A process on this machine: its output, and its end."""

    def __init__(self, device: str, threads: int, shown: Counter[str]) -> None:
        ours, theirs = socket.socketpair()
        environment = dict.fromkeys(THREADS, str(threads)) if threads else {}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(sys.path, theirs.fileno(), device, threads)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **environment},
            )
        self.finalizer = weakref.finalize(self, _end, self.process, watch(self.process.pid))  # also at our exit
        super().__init__(Connection(ours.detach()), device)
        self.output = Output(self.process.stdout, shown)

    def ended(self) -> str:
        """How it ended, in words."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        code = self.process.poll()
        self.finalizer()
        how = "hung" if code is None else f"with {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        said = self.output.last()
        return f"{how}, saying: {said}" if said else how

    def wait(self, end: float) -> None:
        """Waits until a time of the monotonic clock for its end, and kills it then."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, end - time.monotonic()))
        self.finalizer()


def _end(process: "subprocess.Popen[bytes]", watcher: "subprocess.Popen[bytes] | None") -> None:
    kill(process)  # also what it has started and left behind
    process.wait()
    dismiss(watcher)
    close(process.stdout)
