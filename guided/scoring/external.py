"""A reward that is another program, in its own environment: one JSON object a line in, one out; kept running.

    request   {"version": 1, "id": 7, "samples": ["CCO", "c1ccccc1"]}
    answer    {"version": 1, "id": 7, "scores": [0.1, 0.9]}      or  {"version": 1, "id": 7, "error": "why"}

Its standard output is the protocol and nothing else; the last lines of its standard error are shown when it fails.
It is started at the first request, killed and started again after it crashed or hung, and ended by closing its input.
"""

__all__ = ["VERSION", "External"]

import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import weakref
from collections import deque
from typing import IO, Any

from guided.errors import GuidedError, RewardError
from guided.scoring.failures import Hang

VERSION = 1
GRACE = 2.0  # seconds between closing the program's input and killing it


class External:
    """The program and its protocol. POSIX only.

    Args:
        command: the program and its arguments.

    Raises:
        GuidedError: there is no such program.
    """

    def __init__(self, command: list[str]) -> None:
        if not command or shutil.which(command[0]) is None:
            given = shlex.join(command) or "nothing"
            raise GuidedError(f"no executable program {given!r}: give exec:PROGRAM ARGUMENTS, PROGRAM on the path")
        self.command = command
        self._running: _Running | None = None
        self._next_id = 0

    def score(self, samples: list[Any], limit: float | None) -> object:
        """Sends n samples and returns the `scores` of the answer, not yet checked.

        Raises:
            Hang: no answer within `limit` seconds; the program was killed.
            RewardError: a sample is not text, or the program speaks another version of the protocol.
            RuntimeError: it crashed, broke the protocol, or answered with an error.
        """
        self._next_id += 1
        request = {"version": VERSION, "id": self._next_id, "samples": [_text(sample) for sample in samples]}
        if self._running is None:
            self._running = _Running(self.command)
        try:
            line = self._running.exchange(json.dumps(request) + "\n", limit)
            answer = _parse(line, self._next_id)
        except BaseException:  # also Ctrl-C: what it would still answer must not be read as the next answer
            self.close(grace=0.0)
            raise
        if answer.get("error") is not None:
            raise RuntimeError(str(answer["error"]))
        return answer["scores"]

    def close(self, grace: float = GRACE) -> None:
        """Ends the program, if it runs: its input is closed, and after `grace` seconds it is killed."""
        running, self._running = self._running, None
        if running is not None:
            running.end(grace)


class _Running:
    """One process: its pipes, the last lines of its standard error, and its end."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        try:
            # A session of its own, so that what the program started can be killed with it.
            self.process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise RewardError(f"cannot be started: {error}") from error
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.last_words: deque[str] = deque(maxlen=5)
        self.pump = threading.Thread(target=_pump, args=(self.process.stderr, self.last_words), daemon=True)
        self.pump.start()
        self.finalizer = weakref.finalize(self, _end, self.process, GRACE)  # runs at the interpreter's exit too

    def exchange(self, line: str, limit: float | None) -> str:
        """Writes a line and reads one. Raises Hang past the limit, RuntimeError when the program has ended."""
        hung = threading.Event()

        def kill() -> None:
            hung.set()
            _kill(self.process)  # unblocks whichever of the two pipes we wait for

        timer = threading.Timer(limit, kill) if limit is not None else None
        if timer:
            timer.daemon = True
            timer.start()
        try:
            self.stdin.write(line)
            self.stdin.flush()
            answer = self.stdout.readline()
        except OSError:
            answer = ""
        finally:
            if timer:
                timer.cancel()
        if hung.is_set():
            raise Hang
        if not answer:
            raise RuntimeError(self._obituary())
        return answer

    def _obituary(self) -> str:
        try:
            status = f"with exit code {self.process.wait(GRACE)}"
        except subprocess.TimeoutExpired:
            status = "its output without ending"
        self.pump.join(0.5)
        said = " | ".join(self.last_words)
        return f"the program ended {status}" + (f", saying: {said}" if said else "")

    def end(self, grace: float) -> None:
        self.finalizer.detach()
        _end(self.process, grace)


def _parse(line: str, wanted: int) -> dict[str, Any]:
    shown = line.strip()[:80]
    try:
        answer = json.loads(line)
    except ValueError:
        raise RuntimeError(f"wrote a line that is not JSON on its standard output: {shown!r}") from None
    if not isinstance(answer, dict):
        raise RuntimeError(f"answered with JSON that is not an object: {shown!r}")
    if answer.get("version") != VERSION:
        raise RewardError(f"speaks version {answer.get('version')!r} of the protocol, wanted {VERSION}: {shown!r}")
    if answer.get("id") != wanted:
        raise RuntimeError(f"answered request {answer.get('id')!r}, asked was {wanted}")
    if answer.get("error") is None and "scores" not in answer:
        raise RuntimeError(f"answered without 'scores' or 'error': {shown!r}")
    return answer


def _text(sample: object) -> str | None:
    if sample is None or isinstance(sample, str):
        return sample
    raise RewardError(f"is an external program and takes text samples only, given {type(sample).__name__}")


def _pump(stream: IO[str], last_words: "deque[str]") -> None:
    with stream:
        last_words.extend(line.strip() for line in stream if line.strip())


def _kill(process: "subprocess.Popen[str]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def _end(process: "subprocess.Popen[str]", grace: float) -> None:
    if grace <= 0:
        _kill(process)  # first: closing the input would wait for the program to read what is left of it
    try:
        assert process.stdin and process.stdout
        process.stdin.close()
    except OSError:
        pass  # it had ended with something of ours unread
    try:
        if grace > 0:
            process.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    _kill(process)  # also what the program started and left behind
    process.wait()
    if process.stdout:
        process.stdout.close()
