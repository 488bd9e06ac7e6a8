"""Progress of what has several stages, as a fit has."""

__all__ = ["StageBar"]

import sys
import time
from typing import Any

from guided.cli.console import LiveBar

LINES = 10  # of a stage, where standard error is no terminal


class StageBar(LiveBar):
    """A progress bar on standard error; a few plain lines for each stage where that is no terminal.

    Arguments:
        loss: The attribute of the state that is a loss.
        name: What it is called.
    """

    def __init__(self, loss: str, name: str) -> None:
        super().__init__()
        self.loss, self.name = loss, name
        self.stage, self.line, self.start, self.first = "", 0, 0.0, 0
        self.used = False

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
