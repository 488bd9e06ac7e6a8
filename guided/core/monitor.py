"""What a run cost and how far it is: network rows, seconds by part, and a callback at each step."""

__all__ = ["Monitor", "Progress", "check_progress"]

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from guided.errors import GuidedError, shown


@dataclass(frozen=True)
class Progress:
    """How far a run, a fit or a training is.

    Attributes:
        stage: What is made: "samples", "rollouts", "updates", ...
        done: How many of them are.
        total: How many there will be.
        step: The step of the batch that is being drawn; None where there is none.
        steps: How many steps it has.
        mean: The mean value of the candidates at the last look-ahead; None before the first.
        best: The best value that any candidate has had; None before the first.
        loss: The loss, or that on held-out data; None before it is known.
        seconds: Seconds since the start.
    """

    stage: str
    done: int
    total: int
    step: int | None = None
    steps: int | None = None
    mean: float | None = None
    best: float | None = None
    loss: float | None = None
    seconds: float = 0.0


@dataclass
class Monitor:
    """Counters of one run, shared by all of its parts.

    Attributes:
        network_rows: Rows that the network evaluated; a guided row counts twice.
        network_calls: Calls of the network.
        seconds: Wall-clock seconds by part (network, decode, reward). On an accelerator a part ends when its
            work is submitted, unless a result is waited for.
        on_step: Called with the step `k` whenever particles have moved.
    """

    network_rows: int = 0
    network_calls: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"network": 0.0, "decode": 0.0, "reward": 0.0})
    on_step: Callable[[int], None] | None = None

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start

    def count(self, rows: int) -> None:
        self.network_rows += rows
        self.network_calls += 1

    def step(self, k: int) -> None:
        if self.on_step is not None:
            self.on_step(k)


def check_progress(progress: Any) -> Any:
    """A callback for :class:`Progress`, or None.

    Raises:
        GuidedError: It is something else.
    """
    if progress is not None and not callable(progress):
        raise GuidedError(f"progress is {shown(progress)}; it must be a function of a Progress, or None")
    return progress
