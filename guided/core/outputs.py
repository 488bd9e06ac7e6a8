"""The network's outputs: each distinct row is evaluated once, and particles point to its output."""

__all__ = ["Outputs", "check_output", "evaluate", "gather"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from guided.core.process import Process
from guided.errors import GuidedError


@dataclass(frozen=True)
class Outputs:
    """The network's outputs at distinct rows; particle (b, n) has row `index[b, n]`.

    Attributes:
        x: The rows, with shape `(u, *event)`.
        y: The outputs, with shape `(u, *)`.
        index: With shape `(B, N)`.
    """

    x: Tensor
    y: Tensor
    index: Tensor

    def take(self, index: Tensor) -> "Outputs":
        return replace(self, index=gather(self.index, index))

    @staticmethod
    def join(parts: Sequence["Outputs"]) -> "Outputs":
        """The outputs of several sets of particles of the same requests, side by side in each request."""
        tables: dict[int, Outputs] = {id(part.y): part for part in parts}  # shared ones are kept once
        starts, total = {}, 0
        for key, part in tables.items():
            starts[key], total = total, total + len(part.x)
        index = torch.cat([part.index + starts[id(part.y)] for part in parts], 1)
        if len(tables) == 1:
            return replace(parts[0], index=index)
        x, y = (torch.cat(rows) for rows in zip(*((part.x, part.y) for part in tables.values()), strict=True))
        return Outputs(x, y, index)

    @staticmethod
    def merge(parts: Sequence[tuple[list[int], "Outputs"]]) -> "Outputs":
        """The outputs of some requests each, by their positions, as those of all requests."""
        N, start = parts[0][1].index.shape[1], 0
        index = parts[0][1].index.new_empty(sum(len(requests) for requests, _ in parts), N)
        for requests, part in parts:
            index[requests] = part.index + start
            start += len(part.x)
        x, y = (torch.cat(rows) for rows in zip(*((part.x, part.y) for _, part in parts), strict=True))
        return Outputs(x, y, index)


def evaluate(
    network: Callable[[Tensor, Tensor], Tensor],
    process: Process,
    x: Tensor,
    parents: Outputs | None = None,
    by_request: bool = False,
) -> Outputs:
    """The outputs at particles, with shape `(B, N, *event)`.

    Where the process finds equal rows, they are evaluated once, and a row equal to its parent keeps that output.

    Args:
        network: Maps rows `(n, *event)` and the request of each, `(n,)`, to outputs `(n, *)`.
        process: The reverse chain.
        x: The particles.
        parents: Outputs that still hold for the rows that are equal to theirs, indexed by `(B, N)`.
        by_request: Whether equal rows of two requests may have different outputs.
    """
    rows = x.flatten(0, 1)
    request = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
    changed = None if parents is None else process.changed(rows, parents.x[parents.index.flatten()])
    new, inverse = process.distinct(rows, request if by_request else None, changed)
    if parents is None or changed is None:  # no parents
        return Outputs(rows[new], network(rows[new], request[new]), inverse.view(x.shape[:2]))
    index = torch.where(changed.view(x.shape[:2]), len(parents.x) + inverse.view(x.shape[:2]), parents.index)
    if not len(new):
        return Outputs(parents.x, parents.y, index)
    y = network(rows[new], request[new])
    return Outputs(torch.cat([parents.x, rows[new]]), torch.cat([parents.y, y]), index)


def check_output(y: Any, wanted: tuple[int, ...], predicts: str) -> None:
    """Refuses an output that would otherwise be broadcast, or drawn as a token that does not exist.

    Args:
        y: What a denoiser returned.
        wanted: The shape that it must have.
        predicts: What it must be, in words.

    Raises:
        GuidedError: It is no floating-point tensor of this shape.
    """
    if isinstance(y, Tensor) and tuple(y.shape) == wanted and y.is_floating_point():
        return
    given = f"shape {tuple(y.shape)} and type {y.dtype}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
    raise GuidedError(
        f"the denoiser returned {given}; it must be a floating-point tensor of shape {wanted}: {predicts}"
    )


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Picks `x[b, index[b, n]]`: `(B, N, *)` by `(B, N')` to `(B, N', *)`."""
    return x[torch.arange(len(x), device=x.device)[:, None], index.to(x.device)]
