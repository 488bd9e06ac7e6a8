"""Signals that end a run: Ctrl-C, SIGTERM (timeout, SLURM, docker stop) and SIGHUP end it in the same quiet way.

All three have the effect of Ctrl-C: batches that are written are kept, external programs are ended. The exit code is
128 and the signal's number: 130, 143, 129.
"""

__all__ = ["Ended", "handled", "quiet"]

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

PATIENCE = 10.0  # seconds until the process is ended
_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}


class Ended:  # no dataclass: their import takes longer than all else here
    """The signal that ended a run, None if there was none."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number

    @property
    def code(self) -> int:
        """The exit code."""
        return 128 + (self.number or 0)

    @property
    def word(self) -> str:
        """The word that is printed."""
        return _WORDS[signal.Signals(self.number or signal.SIGINT).name]

    def raised(self, number: int, frame: FrameType | None) -> None:
        """Notes the signal and raises KeyboardInterrupt, wherever the program is."""
        self.number = self.number or number
        raise KeyboardInterrupt


@contextmanager
def handled() -> Iterator[Ended]:
    """Turns the signals into KeyboardInterrupt, except ignored ones (nohup). Yields the record of the signal."""
    ended = Ended()
    with _replaced(ended.raised), _deadline():
        yield ended


@contextmanager
def _deadline() -> Iterator[None]:
    """Ends the process some seconds after a signal if it is still running, as in C code that does not return."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    done = threading.Event()

    def watch() -> None:
        with os.fdopen(reading, "rb", buffering=0) as stream:
            while (byte := stream.read(1)) and byte[0] not in _numbers():
                pass
        if byte and not done.wait(PATIENCE):
            processes = sys.modules.get("guided.scoring.program")
            if processes is not None:
                processes.kill_all()
            os._exit(Ended(byte[0]).code)

    try:
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    except ValueError:  # not in the main thread
        os.close(reading)
        os.close(writing)
        yield
        return
    watcher = threading.Thread(target=watch, daemon=True, name="signals")
    watcher.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        os.close(writing)  # the thread reads the end
        watcher.join(1)  # not for ever: a program that is just being started may hold the other end


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in _WORDS if hasattr(signal, name)]


@contextmanager
def quiet() -> Iterator[None]:
    """Ends the process at once at a signal, while modules are imported and no other programs are running."""

    def leave(number: int, frame: FrameType | None) -> None:
        ended = Ended(number)
        os.write(2, f"{ended.word}\n".encode())
        os._exit(ended.code)

    with _replaced(leave):
        yield


@contextmanager
def _replaced(handler: Any) -> Iterator[None]:
    before = {}
    try:
        for name in _WORDS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, handler)
    except ValueError:  # not in the main thread
        pass
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
