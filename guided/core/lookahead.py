"""Look-aheads: the clean samples that particles point to."""

__all__ = ["LookAhead"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guided.core.batching import Rows
from guided.core.monitor import Monitor
from guided.errors import GuidedError


@dataclass(frozen=True)
class LookAhead:
    """The distinct clean samples that particles point to. They are decoded when asked for, some at a time.

    Attributes:
        rows: The clean rows, with shape `(u, *event)`.
        index: The sample of each particle's draws, with shape `(B, N, draws)`.
        prompts: The prompts of the samples, `u` of them, where equal samples of two requests were kept apart; None
            otherwise.
    """

    rows: Tensor
    index: Tensor
    prompts: Sequence[str] | None
    decode: Callable[[Tensor], Any]
    monitor: Monitor

    def __len__(self) -> int:
        return len(self.rows)

    def samples(self, part: Rows = slice(None)) -> Any:
        """The decoded samples of a part of the rows.

        Raises:
            GuidedError: The decoder returned another number of samples.
        """
        rows = self.rows[part]
        with self.monitor.time("decode"):
            samples = self.decode(rows)
        if len(samples) != len(rows):
            raise GuidedError(f"the model's decode made {len(samples)} samples of {len(rows)} rows")
        return samples

    def prompts_of(self, part: Rows = slice(None)) -> list[str]:
        """The prompts of a part of the rows; none where the requests were not kept apart."""
        return [] if self.prompts is None else [self.prompts[i] for i in torch.arange(len(self))[part].tolist()]
