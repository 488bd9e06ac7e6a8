"""What the process that writes and those that draw tell each other."""

__all__ = ["Done", "Event", "Failed", "Lost", "Ready", "Step", "Task"]

from dataclasses import dataclass, field
from typing import TypeAlias

from guided.runs.engine import Batch
from guided.samplers import Sampler


@dataclass(frozen=True)
class Task:
    """A block to draw.

    Attributes:
        place: Its place among the blocks.
        requests: Its requests.
        sampler: The sampler; None for that of the run.
    """

    place: int
    requests: list[int]
    sampler: Sampler | None = None


@dataclass(frozen=True)
class Ready:
    """A process has loaded the model and waits for a block."""


@dataclass(frozen=True)
class Step:
    """A process has made a step of its block.

    Attributes:
        k: The step.
        steps: How many there are.
        mean: The mean value of the candidates at the last look-ahead; None before the first.
        best: The best value that a candidate of this process has had; None before the first.
    """

    k: int
    steps: int
    mean: float | None = None
    best: float | None = None


@dataclass(frozen=True)
class Done:
    """A process has drawn its block.

    Attributes:
        batch: The block.
        failures: For each reward the scores that failed in it, and the first failure of the process.
    """

    batch: Batch
    failures: list[tuple[int, str | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Failed:
    """A process could not draw its block, or not load the model.

    Attributes:
        error: The exception.
        trace: Its traceback as text.
    """

    error: Exception
    trace: str = ""


@dataclass(frozen=True)
class Lost:
    """A process has ended, or cannot be reached.

    Attributes:
        why: How it ended, in words.
    """

    why: str


Event: TypeAlias = Ready | Step | Done | Failed | Lost
