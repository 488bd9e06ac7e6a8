"""Look-aheads: the clean samples that particles point to."""

__all__ = ["LookAhead"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from guided.core.batching import Rows
from guided.core.monitor import Monitor
from guided.core.views import EachPrompt, Views


@dataclass(frozen=True)
class LookAhead:
    """The clean samples that particles point to. They are decoded when asked for, some at a time.

    Attributes:
        views: The clean rows, `u` of them, in the forms that rewards take.
        index: The sample of each particle's draws, with shape `(B, N, draws)`.
        prompts: The prompts of the samples, `u` of them, where equal samples of two requests were kept apart; None
            otherwise.
    """

    views: Views
    index: Tensor
    prompts: EachPrompt | None

    def __len__(self) -> int:
        return len(self.views)

    @property
    def rows(self) -> Tensor:
        """The clean rows, with shape `(u, *event)`."""
        return self.views.rows

    @property
    def monitor(self) -> Monitor:
        """The counters of the run."""
        return self.views.monitor

    def select(self, part: Tensor) -> "LookAhead":
        """Some of the rows; the index still is that of all."""
        prompts = None if self.prompts is None else self.prompts.select(part)
        return LookAhead(self.views.select(part), self.index, prompts)

    def samples(self, part: Rows = slice(None)) -> Any:
        """The decoded samples of a part of the rows.

        Raises:
            GuidedError: The decoder returned another number of samples.
        """
        return self.views.select(part)["samples"]

    def prompts_of(self, part: Rows = slice(None)) -> list[str]:
        """The prompts of a part of the rows; none where the requests were not kept apart."""
        return [] if self.prompts is None else list(self.prompts.select(part))
