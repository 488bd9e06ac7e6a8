"""What processes of real numbers share: there are no tokens, and no two rows are equal."""

__all__ = ["Continuous"]

from typing import TypeVar

import torch
from torch import Tensor

from guided.core.random import Streams
from guided.errors import GuidedError

Own = TypeVar("Own", bound="Continuous")


class Continuous:
    """The part of :class:`guided.core.process.Process` that is the same for all states of real numbers."""

    tokens = None
    fixed = None

    def draw(self, x: Tensor, y: Tensor, draws: int, streams: Streams) -> Tensor:
        raise GuidedError(f"draws is {draws}; a continuous model has one clean mean, so it must be 1")

    def remask(self, x: Tensor, where: Tensor) -> Tensor:
        raise GuidedError("a continuous model has no tokens to mask")

    def distinct(self, x: Tensor, group: Tensor | None = None, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All rows: two rows of real numbers are practically never equal."""
        every = torch.arange(len(x), device=x.device)
        return every, every

    def changed(self, x: Tensor, parents: Tensor) -> Tensor:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)

    def pinned(self: Own, fixed: Tensor) -> Own:
        raise GuidedError("a continuous model has no tokens to pin")

    def select(self: Own, requests: list[int]) -> Own:
        return self
