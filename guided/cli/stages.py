"""Progress of what has several stages, as a fit has."""

__all__ = ["StageBar"]

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINES = 10  # of a stage, where standard error is no terminal


class StageBar:
    """A progress bar on standard error; a few plain lines for each stage where that is no terminal.

    Arguments:
        loss: The attribute of the state that is a loss.
        name: What it is called.
    """

    def __init__(self, loss: str, name: str) -> None:
        self.loss, self.name = loss, name
        columns = [BarColumn(bar_width=None), TextColumn("{task.fields[text]}", markup=False), TimeRemainingColumn()]
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
        self.plain = not self.bar.console.is_terminal
        self.stage, self.line, self.start, self.first = "", 0, 0.0, 0
        self.used = False

    def __enter__(self) -> "StageBar":
        if not self.plain:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.plain:
            self.bar.stop()

    def __call__(self, state: Any) -> None:
        self.used = True
        if state.stage != self.stage:
            self.stage, self.line, self.start, self.first = state.stage, 0, time.perf_counter(), state.done
            for task in self.bar.task_ids:
                self.bar.remove_task(task)
            self.bar.add_task("", total=state.total, completed=state.done, text="")
        words = [f"{state.done}/{state.total} {state.stage}"]
        loss = getattr(state, self.loss)
        if loss == loss:
            words.append(f"{self.name} {loss:.4g}")
        words.append(f"{(state.done - self.first) / max(time.perf_counter() - self.start, 1e-9):.2f}/s")
        if not self.plain:
            self.bar.update(self.bar.task_ids[0], completed=state.done, text="  ".join(words))
        elif state.done * LINES // state.total > self.line:
            self.line = state.done * LINES // state.total
            print(", ".join(words), file=sys.stderr, flush=True)
