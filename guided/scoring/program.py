"""A process that answers a line with a line: its pipes, the last lines of its standard error, and its end.

It has a session of its own, so that what it started can be killed with it; and a watcher: a shell that waits for the
end of a pipe from us, and kills that session when we end without a word (SIGKILL, a crash). The kernel's PDEATHSIG
would kill the program when the thread that started it ends, and not what it started.
"""

__all__ = ["GRACE", "Program", "dismiss", "kill_all", "watch"]

import os
import selectors
import signal
import subprocess
import threading
import weakref
from contextlib import suppress
from typing import IO

from guided.errors import RewardError
from guided.scoring.failures import printable

GRACE = 2.0  # seconds between closing the program's input and killing it
BLOCK = 1 << 16
KEPT, WIDEST = 4096, 300  # characters of the standard error, and of a line of it
_WATCHER = 'read -r word && exit 0; kill -s KILL -- "-$0" 2>/dev/null'
_running: "weakref.WeakSet[Program]" = weakref.WeakSet()


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
            RuntimeError: the program has ended, or its line does not end.
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
            raise RuntimeError(self._how_it_ended())
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
        _kill(self.process)

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


def watch(group: int) -> "subprocess.Popen[bytes] | None":
    """Kills a group of processes when this process ends without telling the watcher so."""
    nothing = subprocess.DEVNULL
    command = ["/bin/sh", "-c", _WATCHER, str(group)]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, start_new_session=True, bufsize=0, cwd="/"
        )
    except OSError:
        return None


def _kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def _end(process: "subprocess.Popen[bytes]", watcher: "subprocess.Popen[bytes] | None", grace: float) -> None:
    try:
        if grace > 0:
            _close(process.stdin)
            process.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also when Ctrl-C comes while it waits
        _kill(process)  # also what the program started and left behind
        process.wait()
        _close(process.stdin)
        _close(process.stdout)
        dismiss(watcher)


def dismiss(watcher: "subprocess.Popen[bytes] | None") -> None:
    """Ends a watcher whose group has ended."""
    if watcher is not None and watcher.stdin is not None:
        with suppress(OSError):
            watcher.stdin.write(b"done\n")
        _close(watcher.stdin)
        watcher.wait()


def _close(stream: IO[bytes] | None) -> None:
    with suppress(OSError):  # it had ended with something of ours unread
        if stream is not None:
            stream.close()
