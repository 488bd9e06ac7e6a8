"""The requests of one run of a model: their conditions, their starting points, and the counters of the run."""

__all__ = ["Requests"]

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from guided.core.editing import Editing
from guided.core.guidance import Conditions, Guidance
from guided.core.monitor import Monitor
from guided.core.spending import Spending
from guided.errors import GuidedError


@dataclass(frozen=True)
class Requests:
    """`B` requests.

    Args:
        conditions: Their conditions, on both sides of guidance.
        prompts: Their prompts, for rewards that take them; empty where there are none.
        guidance: The guidance; None where one side is evaluated.
        editing: The clean rows that they start from, or keep parts of; None to start from noise.
        weights: Their weights of the terms of a reward, with shape `(B, T)`, on the CPU; None where all have the same.
        monitor: The counters of the run.
        spending: What each request may spend and has spent; None where nobody counts.
    """

    conditions: Conditions = field(default_factory=Conditions)
    prompts: Sequence[str] = ()
    guidance: Guidance | None = None
    editing: Editing | None = None
    weights: Tensor | None = None
    monitor: Monitor = field(default_factory=Monitor)
    spending: Spending | None = None

    def select(self, index: list[int]) -> "Requests":
        """Some of the requests only."""
        return replace(
            self,
            conditions=self.conditions.take(index),
            prompts=[self.prompts[i] for i in index] if self.prompts else (),
            editing=self.editing and self.editing.select(index),
            weights=None if self.weights is None else self.weights[index],
            spending=None if self.spending is None else self.spending.select(index),
        )

    def check_branching(self) -> None:
        """Raises GuidedError if particles may not branch: their guider keeps something of each from step to step."""
        if self.guidance is not None and self.guidance.guider is not None and self.guidance.guider.remembers:
            raise GuidedError(self.guidance.guider.remembers)

    def keep(self, rows: Tensor) -> None:
        """Tells a guider that keeps something of each row which of a step's rows go on, with shape `(n,)`."""
        guider = None if self.guidance is None else self.guidance.guider
        if guider is not None and guider.remembers:
            guider.keep(rows)

    def over(self) -> bool:
        """Whether the seconds of the budget are over; the requests count as stopped then."""
        return self.spending is not None and self.spending.over()

    def first_step(self, K: int) -> int:
        """The step of `K` that the requests start at: 0, or a later one where they start from a sample.

        Raises:
            GuidedError: No step is left.
        """
        return 0 if self.editing is None else self.editing.begin(K)
