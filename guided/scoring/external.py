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
from copy import copy
from typing import Any

from guided.errors import GuidedError, RewardError
from guided.scoring.failures import printable
from guided.scoring.program import GRACE, Ended, Program
from guided.scoring.protocol import Prompts, Samples

VERSION = 1
LINE, EACH = 1_000_000, 1_000  # characters that an answer may have, and those for each sample besides


class External:
    """The program and its protocol. POSIX only.

    Args:
        command: the program and its arguments. It runs in the folder that is the current one now.

    Raises:
        GuidedError: there is no such program.
    """

    def __init__(self, command: list[str]) -> None:
        if not command or shutil.which(command[0]) is None:
            given = shlex.join(command) or "nothing"
            raise GuidedError(f"no executable program {given!r}: give exec:PROGRAM ARGUMENTS, PROGRAM on the path")
        self.command = command
        self.folder = os.getcwd()
        self._running: Program | None = None
        self._next_id = 0
        self._cancelled = False

    def __call__(self, samples: Samples, prompts: Prompts = None) -> object:
        """Sends n samples and returns the `scores` of the answer, not yet checked.

        Raises:
            RewardError: a sample is not text, or the program speaks another version of the protocol.
            RuntimeError: it crashed twice, broke the protocol, or answered with an error.
        """
        self._next_id += 1
        request = {"version": VERSION, "id": self._next_id, "samples": [_text(sample) for sample in samples]}
        self._cancelled = False
        try:
            answer = self._asked(request)
        except Ended:  # once more, as with a worker process that dies
            if self._cancelled:
                raise
            answer = self._asked(request)
        if answer.get("error") is not None:
            raise RuntimeError(str(answer["error"]))
        return answer["scores"]

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        """The program's answer; it is started if it does not run."""
        if self._running is None:
            self._running = Program(self.command, self.folder)
        try:
            line = self._running.exchange(json.dumps(request) + "\n", LINE + EACH * len(request["samples"]))
            return _parse(line, self._next_id)
        except BaseException:  # also Ctrl-C: what it would still answer must not be read as the next answer
            self.close(grace=0.0)
            raise

    def another(self) -> "External":
        """The same program, to run beside this one."""
        other = copy(self)
        other._running, other._next_id = None, 0
        return other

    def cancel(self) -> bool:
        """Kills the program, so that a call in another thread ends."""
        self._cancelled = True
        if self._running is not None:
            self._running.kill()
        return True

    def close(self, grace: float = GRACE) -> None:
        """Ends the program, if it runs: its input is closed, and after `grace` seconds it is killed."""
        running, self._running = self._running, None
        if running is not None:
            running.end(grace)


def _parse(line: str, wanted: int) -> dict[str, Any]:
    shown = printable(line[:1000])[:80]
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
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
