"""A reward that is a Python function."""

__all__ = ["Function"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guided.scoring.copies import copied
from guided.scoring.protocol import Prompts, Samples


@dataclass(frozen=True)
class Function:
    """Calls a function on copies of the samples, without gradients.

    Args:
        function: `function(samples, **parameters)`, n samples -> n numbers.
        parameters: its keyword arguments.
        prompted: whether it is given the samples' prompts, as `prompts=`.
    """

    function: Callable[..., object]
    parameters: Mapping[str, Any]
    prompted: bool = False

    def __call__(self, samples: Samples, prompts: Prompts = None) -> object:
        """What the function returns."""
        extra = {"prompts": copied(prompts)} if self.prompted else {}
        with torch.no_grad():  # the setting belongs to a thread
            return self.function(copied(samples), **copied(dict(self.parameters)), **extra)

    def relaxed(self, rows: Tensor, prompts: Prompts = None) -> object:
        """What the function returns for real numbers, with gradients."""
        extra = {"prompts": prompts} if self.prompted else {}
        return self.function(rows, **copied(dict(self.parameters)), **extra)

    def cancel(self) -> bool:
        """A function cannot be ended from outside."""
        return False

    def close(self) -> None:
        """Nothing is kept running."""
