"""A progress bar, and tables whose lines are not folded when they are piped."""

__all__ = ["ProgressBar", "console", "number", "printable", "show_table"]

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from guided.core.monitor import Progress as State
    from guided.runs.engine import Batch

PIPE_WIDTH = 4000  # so wide that a piped line is not folded
LINES = 10  # for each stage, when standard error is not a terminal


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
        table.add_row(*(Text(number(cell).replace("\n", "\\n")) for cell in row))
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


class ProgressBar:
    """A progress bar on standard error for runs, fits and trainings; plain lines if that is not a terminal.

    It is called with each :class:`guided.core.monitor.Progress`; a plain line is written for each batch that
    `finished` counts, and a few for a stage whose progress has no steps.

    Args:
        batch_size: The number of requests that are drawn at a time.
        loss: What a loss is called.
    """

    def __init__(self, batch_size: int = 1, loss: str = "loss") -> None:
        columns = [BarColumn(bar_width=None), TextColumn("{task.fields[text]}", markup=False), TimeRemainingColumn()]
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
        self.plain = not self.bar.console.is_terminal or self.bar.console.is_dumb_terminal
        self.batch_size, self.loss = batch_size, loss
        self.stage, self.line, self.start, self.first = "", 0, 0.0, 0.0
        self.best, self.used = float("-inf"), False

    def __enter__(self) -> "ProgressBar":
        if not self.plain:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.plain:
            self.bar.stop()

    def __call__(self, state: "State") -> None:
        """Shows the progress."""
        self.used = True
        done = float(state.done)
        if state.step is not None and state.steps:
            done += min(self.batch_size, state.total - state.done) * state.step / state.steps
        self._begin(state.stage, state.done, state.total)
        text = [f"{state.done}/{state.total} {state.stage}", *self._words(state), self._rate(done)]
        if not self.plain:
            self.bar.update(self.bar.task_ids[0], completed=done, text="  ".join(text))
        elif state.step is None and state.done * LINES // state.total > self.line:
            self.line = state.done * LINES // state.total
            print(", ".join(text), file=sys.stderr, flush=True)

    def finished(self, batch: "Batch", done: int, total: int) -> None:
        """Counts a batch that was drawn and written; `done` samples of `total` are finished."""
        self._begin("samples", done - len(batch.samples), total)
        if self.plain:
            words = [f"{done}/{total} {self.stage}"]
            if batch.columns:  # there was a reward
                self.best = max(self.best, *batch.rewards)
                words += [f"best {self.best:.3f}", f"mean of the batch {sum(batch.rewards) / len(batch.rewards):.3f}"]
            print(", ".join([*words, self._rate(done)]), file=sys.stderr, flush=True)

    def _begin(self, stage: str, done: int, total: int) -> None:
        if stage == self.stage:
            return
        self.stage, self.line, self.start, self.first = stage, 0, time.perf_counter(), done
        self.best = float("-inf")
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        self.bar.add_task("", total=total, completed=done, text="")

    def _words(self, state: "State") -> list[str]:
        words = [] if state.step is None else [f"step {state.step}/{state.steps}"]
        if state.best is not None and state.mean is not None:
            words += [f"best look-ahead {state.best:.3f}", f"mean {state.mean:.3f}"]
        return words if state.loss is None else [*words, f"{self.loss} {state.loss:.4g}"]

    def _rate(self, done: float) -> str:
        rate = (done - self.first) / max(time.perf_counter() - self.start, 1e-9)
        return f"{rate:.2f} {'samples' if 'samples' in self.stage else self.stage}/s"
