"""What a run cost and how far it is: counted rows, seconds by part, and who wants to hear of each step."""

__all__ = ["Monitor"]

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Monitor:
    """Counters of one run, shared by all that works in it.

    Attributes:
        network_rows: Rows that the network evaluated; a guided row counts twice.
        network_calls: Calls of the network.
        seconds: Wall-clock seconds by part (network, decode, reward). On an accelerator a part ends when its
            work was submitted, unless it needed a result.
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
