"""What the command line shows: a progress bar, and tables that stay whole when they are piped."""

__all__ = ["Bar", "LiveBar", "console", "number", "printable", "show_table"]

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO, TypeVar

from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from guided.runs.engine import Batch
    from guided.runs.engine import Progress as Step

Shown = TypeVar("Shown", bound="LiveBar")
PIPE_WIDTH = 4000  # a line that is piped is not to be folded


def console() -> Console:
    """Standard output."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Prints a table, a line for each row; the columns named in `right` are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for i, column in enumerate(columns):
        side: JustifyMethod = "right" if column in right else "left"
        table.add_column(column, justify=side, style="cyan" if i == 0 else "", overflow="fold")
    for row in rows:
        table.add_row(*(Text(number(cell)) for cell in row))
    out = console()
    with out.capture() as capture:
        out.print(table)
    print(printable("\n".join(line.rstrip() for line in capture.get().splitlines()), sys.stdout))


def printable(text: str, stream: TextIO) -> str:
    """The text with "?" for each character that the stream's encoding does not have."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def number(cell: object) -> str:
    """A cell as text, a float with four digits."""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


class LiveBar:
    """A bar on standard error while it is open; `plain` says that there is no terminal that can show it."""

    def __init__(self) -> None:
        columns = [BarColumn(bar_width=None), TextColumn("{task.fields[text]}", markup=False), TimeRemainingColumn()]
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
        self.plain = not self.bar.console.is_terminal or self.bar.console.is_dumb_terminal

    def __enter__(self: Shown) -> Shown:
        if not self.plain:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.plain:
            self.bar.stop()


class Bar(LiveBar):
    """A progress bar on standard error; a plain line for each finished batch where that is no terminal.

    Args:
        n: The number of requests of the run.
        done: How many of them are there already.
        batch_size: The size of its blocks of requests.
        label: What is drawn.
    """

    def __init__(self, n: int, done: int, batch_size: int, label: str = "samples") -> None:
        super().__init__()
        self.label = label
        self.n, self.before, self.done, self.batch_size = n, done, done, batch_size
        self.best, self.start = float("-inf"), time.perf_counter()
        self.task = self.bar.add_task("", total=n, completed=done, text="")

    def __call__(self, step: "Step") -> None:
        """Shows a step of the batch that is being drawn."""
        if self.plain:
            return
        size = min(self.batch_size, self.n - self.done)
        part = self.done + size * step.step / step.steps
        words = [f"{self.done}/{self.n} {self.label}", f"step {step.step}/{step.steps}"]
        if step.best is not None and step.mean is not None:
            self.best = max(self.best, step.best)
            words += [f"best {self.best:.3f}", f"mean {step.mean:.3f}"]
        self.bar.update(self.task, completed=part, text="  ".join([*words, self.rate(part)]))

    def finished(self, batch: "Batch") -> None:
        """Counts a batch that was drawn and written."""
        self.done += len(batch.samples)
        if self.plain:
            words = [f"{self.done}/{self.n} {self.label}"]
            if batch.columns:  # there was a reward
                self.best = max(self.best, *batch.rewards)
                words += [f"best {self.best:.3f}", f"mean of the batch {sum(batch.rewards) / len(batch.rewards):.3f}"]
            print(", ".join([*words, self.rate(self.done)]), file=sys.stderr, flush=True)

    def rate(self, done: float) -> str:
        return f"{(done - self.before) / max(time.perf_counter() - self.start, 1e-9):.2f} samples/s"
