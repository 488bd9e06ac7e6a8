"""Many rows in parts that fit into memory."""

__all__ = ["Parts"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from guided.errors import out_of_memory


@dataclass
class Parts:
    """At most `size` rows at a time; where memory runs out, half as many from then on.

    Attributes:
        size: The number of rows, at least 1.
    """

    size: int

    def __call__(self, function: Callable[[slice], Tensor], m: int) -> Tensor:
        """The results for m rows, at least one, by a function of some of them that gives one for each."""
        found: list[Tensor] = []
        start = 0
        while start < m:
            rows = slice(start, min(m, start + self.size))
            try:
                found.append(function(rows))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or rows.stop - start <= 1:
                    raise
                self.size = (rows.stop - start) // 2
                continue
            start = rows.stop
        return found[0] if len(found) == 1 else torch.cat(found)
