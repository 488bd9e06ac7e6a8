"""The options of a benchmark of negative checkpoints, its samples, and their measures.

Imported by npo.py and its parts; it does nothing by itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guided.errors import GuidedError


@dataclass(frozen=True)
class Metric:
    """One measure of a set of samples.

    Args:
        name: Its name.
        best: The best number: inf, -inf, or that of real data.
        shown: Whether it is a column of the table of all arms.
    """

    name: str
    best: float = math.inf
    shown: bool = True

    def badness(self, value: float) -> float:
        """The distance from the best number; less is better."""
        if math.isfinite(self.best):
            return abs(value - self.best)
        return -value if self.best > 0 else value


@dataclass(frozen=True)
class Task:
    """The samples to draw, and how they are judged.

    Args:
        name: The benchmark.
        metrics: The measures.
        measure: Maps n samples to their measures, by name.
        prompts: One for each of the n requests; None for an unconditional model.
        scores: Maps n samples to n numbers each, by the name of a judge; higher is better.
        judge: Everything else that the measures depend on, JSON-able.
        reference: The measures of real data, if they are known.
    """

    name: str
    metrics: Sequence[Metric]
    measure: Callable[[list[Any]], Mapping[str, float]]
    prompts: Sequence[str] | None = None
    scores: Callable[[list[Any]], Mapping[str, Sequence[float]]] = lambda samples: {}
    judge: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """The options of the command.

    Raises:
        GuidedError: A number is out of range.
    """

    model: str
    negative: str
    weights: str
    n: int
    seeds: int
    out: Path
    steps: int | None = None
    svdd: str | None = None
    M: int = 10
    pretrained: int | None = None
    batch_size: int = 64
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, number in (("--n", self.n), ("--seeds", self.seeds), ("-M", self.M)):
            if number < 1:
                raise GuidedError(f"{name} is {number}; it must be at least 1")
        if self.out.is_dir():
            raise GuidedError(f"--out {str(self.out)!r} is a folder; name a file, as in runs/npo.json")
        if any(not math.isfinite(w) or w == 1 for w in self.scales):
            raise GuidedError(
                f"--weights is {self.weights!r}; they must be finite numbers other than 1, which is no guidance"
            )

    @property
    def scales(self) -> list[float]:
        """The guidance weights."""
        try:
            return [float(w) for w in self.weights.split(",")]
        except ValueError as error:
            raise GuidedError(f"--weights is {self.weights!r}; it must be numbers separated by commas") from error
