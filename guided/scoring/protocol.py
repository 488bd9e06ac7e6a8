"""What scores samples: a source (a function, a program), and what wraps one (a time limit, the failure policy).

Failures(TimeLimit(source))             in this process
Spread(Failures(source of a worker))    by workers
Cached(either of them)                  with a cache
"""

__all__ = ["Prompts", "Samples", "Scorer"]

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

Samples: TypeAlias = Any  # n samples: a list, or an array or tensor with an axis of samples in front
Prompts: TypeAlias = "Sequence[str] | None"  # one for each sample


class Scorer(Protocol):
    """Scores n samples."""

    def __call__(self, samples: Samples, prompts: Prompts = None) -> Any:
        """N scores: as a reward returned them, or, from :class:`~guided.scoring.failures.Failures` on, numbers."""

    def cancel(self) -> bool:
        """Ends a call that is under way in another thread; whether that can be done."""

    def close(self) -> None:
        """Ends what is kept running; the next call starts it again."""
