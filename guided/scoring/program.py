"""A process that answers a line with a line: its pipes, the last lines of its standard error, and its end.

It has a session of its own and a watcher, so that it ends with this process, and what it started with it.
"""

__all__ = ["GRACE", "Ended", "Program", "kill_all"]

import os
import selectors
import subprocess
import threading
import weakref
from typing import IO

from guided.errors import RewardError
from guided.scoring.failures import printable
from guided.sessions import close, dismiss, kill, watch

GRACE = 2.0  # seconds between closing the program's input and killing it
BLOCK = 1 << 16
KEPT, WIDEST = 4096, 300  # characters of the standard error, and of a line of it
_running: "weakref.WeakSet[Program]" = weakref.WeakSet()


class Ended(RuntimeError):
    """The program ended before it answered."""


class Program:
    """A running program.

    Args:
        command: the program and its arguments.
        folder: where it runs.

    Raises:
        RewardError: it cannot be started.
    """

    def __init__(self, command: list[str], folder: str) -> None:
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, cwd=folder, bufsize=0
            )
        except OSError as error:
            raise RewardError(f"cannot be started: {error}") from error
        watcher = watch(self.process.pid)
        self.finalizer = weakref.finalize(
            self, _end, self.process, watcher, GRACE
        )  # runs at the interpreter's exit too
        self.watcher = watcher
        _running.add(self)
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        for pipe in (self.stdin, self.stdout):
            os.set_blocking(pipe, False)
        self.unsent, self.unread = b"", b""
        self.last_words: list[str] = [""]
        self.pump = threading.Thread(target=_pump, args=(self.process.stderr, self.last_words), daemon=True)
        self.pump.start()

    def exchange(self, line: str, longest: int) -> str:
        """Writes a line and reads one, of at most so many bytes; it reads while it writes.

        Raises:
            Ended: the program has ended.
            RuntimeError: its line does not end.
        """
        self.unsent += line.encode("utf-8", "replace")
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout, selectors.EVENT_READ)
            if self.unsent:
                selector.register(self.stdin, selectors.EVENT_WRITE)
            while b"\n" not in self.unread:
                if len(self.unread) > longest:
                    raise RuntimeError(f"wrote a line of more than {longest:,} bytes on its standard output")
                for key, _ in selector.select():
                    if key.fd == self.stdout:
                        self._read()
                    elif not self._write():
                        selector.unregister(self.stdin)
        answer, _, self.unread = self.unread.partition(b"\n")
        return answer.decode("utf-8", "replace")

    def _read(self) -> None:
        block = os.read(self.stdout, BLOCK)
        if not block:
            raise Ended(self._how_it_ended())
        self.unread += block

    def _write(self) -> bool:
        """Writes what fits; whether there is more to write."""
        try:
            self.unsent = self.unsent[os.write(self.stdin, self.unsent[: 1 << 20]) :]
        except BlockingIOError:
            return True
        except OSError:  # it reads no more; what it wrote before is still read
            self.unsent = b""
        return bool(self.unsent)

    def _how_it_ended(self) -> str:
        try:
            status = f"with exit code {self.process.wait(GRACE)}"
        except subprocess.TimeoutExpired:
            status = "its output without ending"
        self.pump.join(0.5)
        lines = [printable(line)[-WIDEST:] for line in self.last_words[0].splitlines()]
        said = " | ".join([line for line in lines if line][-5:])
        return f"the program ended {status}" + (f", saying: {said}" if said else "")

    def kill(self) -> None:
        """Kills the program and what it started."""
        kill(self.process)

    def end(self, grace: float) -> None:
        """Closes the program's input, and kills it and what it started after so many seconds."""
        try:
            _end(self.process, self.watcher, grace)
        finally:
            self.finalizer.detach()
            _running.discard(self)


def kill_all() -> None:
    """Kills all programs that run, and what they started: for a process that ends without its interpreter's end."""
    for running in list(_running):
        running.kill()


def _pump(stream: IO[bytes], last_words: list[str]) -> None:
    with stream:
        while block := stream.read(BLOCK):
            last_words[0] = (last_words[0] + block.decode("utf-8", "replace"))[-KEPT:]


def _end(process: "subprocess.Popen[bytes]", watcher: "subprocess.Popen[bytes] | None", grace: float) -> None:
    try:
        if grace > 0:
            close(process.stdin)
            process.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also when Ctrl-C comes while it waits
        kill(process)  # also what the program started and left behind
        process.wait()
        close(process.stdin)
        close(process.stdout)
        dismiss(watcher)
