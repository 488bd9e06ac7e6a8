"""One reward of an objective: where it comes from, how its scores are transformed, and its weight."""

__all__ = ["Term"]

from dataclasses import dataclass, field
from typing import Any

from guided.scoring.failures import Failures
from guided.scoring.limits import TimeLimit
from guided.scoring.sources import Source
from guided.scoring.transforms import Transform, spell


@dataclass(frozen=True)
class Term:
    """One reward of an objective.

    Attributes:
        source: the reward.
        weight: > 0.
        transform: maps raw scores to scores; None takes them as they are.
        name: unique in the objective; the name of its columns. "" for the source's label.
        on_error: what a sample that fails does, "stop" or "worst".
        time_limit: seconds that one call may take; None for no limit.
        raw: scores n samples: n numbers, each finite or -inf; applies the failure policy, remembers nothing.
    """

    source: Source
    weight: float = 1.0
    transform: Transform | None = None
    name: str = ""
    on_error: str = "stop"
    time_limit: float | None = None
    raw: Failures = field(init=False, compare=False)

    def __post_init__(self) -> None:
        scorer = self.source.scorer
        limited = scorer if self.time_limit is None else TimeLimit(scorer, self.time_limit)
        object.__setattr__(self, "raw", Failures(self.name or self.source.label, limited, self.on_error))

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-able: which reward it is, with its weight and transform."""
        spelled = self.transform and spell(self.transform)
        return {**self.source.identity, "weight": self.weight, "transform": spelled}
