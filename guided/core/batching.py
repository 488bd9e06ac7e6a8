r"""Evaluation of many rows: duplicates once, at most `size` at a time.

This is the only module that knows about micro-batches; everything else sees one large batch.
"""

__all__ = ["Evaluator", "distinct"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from guided.errors import GuidedError


@dataclass
class Evaluator:
    """Where and in what micro-batches a function is applied to many rows. Out of memory, it halves the micro-batch
    and goes on.

    Args:
        size: The number of rows that the function gets at a time, or None for all at once.
        device: Where the rows are.

    Raises:
        GuidedError: The size is below 1.
    """

    size: int | None = None
    device: torch.device = torch.device("cpu")

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise GuidedError(f"the micro-batch is {self.size} rows; it must be at least 1")

    def __call__(self, fn: Callable[[slice], Tensor], n: int) -> Tensor:
        """Args:
            fn: Maps a slice of the rows to its outputs, with shape `(m, *)`.
            n: The number of rows.

        Returns:
            The outputs, with shape `(n, *)`.
        """
        outputs: list[Tensor] = []
        done = 0
        while done < n or not outputs:
            rows = slice(done, min(n, done + (self.size or n)))
            try:
                outputs.append(fn(rows))
                done = rows.stop
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error) or rows.stop - rows.start <= 1:
                    raise
                self.size = (rows.stop - rows.start) // 2
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


def distinct(x: Tensor, group: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Finds the distinct rows.

    Args:
        x: Rows of whole numbers, with shape `(n, *event)`.
        group: The group of each row, with shape `(n,)`; rows of different groups are different.

    Returns:
        The positions `first` of one row of each kind, with shape `(u,)`, and `inverse`, with shape `(n,)`, such
        that `x == x[first][inverse]`.
    """
    keys = x.flatten(1).long()
    if group is not None:
        keys = torch.cat([group[:, None].to(keys), keys], dim=1)
    if keys.device.type == "mps":  # which does not find distinct rows
        keys = keys.cpu()
    kinds, inverse = torch.unique(keys, dim=0, return_inverse=True)
    first = inverse.new_empty(len(kinds)).scatter_(0, inverse, torch.arange(len(x), device=inverse.device))
    return first.to(x.device), inverse.to(x.device)


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in text for sign in signs)
