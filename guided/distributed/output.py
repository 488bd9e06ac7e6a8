"""What processes print, on the standard error of this one: a line that all of them print is shown once."""

__all__ = ["Output"]

import sys
import threading
from collections import Counter, deque
from typing import IO

from guided.scoring.failures import printable

KEPT, WIDEST = 5, 300  # lines of a process that has ended, and characters of a line
MOST = 10_000  # lines that are counted


class Output:
    """Reads the output of a process in a thread.

    Args:
        stream: The output.
        shown: How often each line was shown, for all processes together.
    """

    def __init__(self, stream: "IO[bytes] | None", shown: Counter[str]) -> None:
        self.stream, self.shown = stream, shown
        self.lines: deque[str] = deque(maxlen=KEPT)
        self.thread = threading.Thread(target=self._read, daemon=True, name="output")
        self.thread.start()

    def last(self) -> str:
        """Its last lines, as one."""
        self.thread.join(0.5)
        return " | ".join(self.lines)

    def _read(self) -> None:
        own: Counter[str] = Counter()
        for raw in self.stream or ():
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if line.strip():
                self.lines.append(printable(line)[-WIDEST:])
            own[line] += 1
            if own[line] > self.shown[line]:  # no other process has said so
                self.shown[line] += 1
                print(line, file=sys.stderr, flush=True)
            if len(own) > MOST:
                own.clear()
                self.shown.clear()
