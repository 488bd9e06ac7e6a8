"""Preferences: weights of several rewards that differ from request to request, so that one run covers a Pareto front.

The weights of a request depend on its number and the seed only, never on how many requests there are; or, if they are
adaptive, on the samples of the batches before its own.
"""

__all__ = ["ADAPTIVE", "Preferences"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guided.core.random import Streams
from guided.errors import GuidedError, shown
from guided.metrics.pareto import simplex
from guided.runs.adaptive import Adaptive

ADAPTIVE = "adaptive"
MOST = 100_000  # vectors of a grid


@dataclass(frozen=True)
class Preferences:
    """The weights of requests, each at least 0, which sum to 1.

    Args:
        of: Maps the numbers of `b` requests to weights, with shape `(b, T)`.
    """

    of: Callable[[Sequence[int]], Tensor]

    @property
    def adaptive(self) -> bool:
        """Whether the weights of a batch depend on the samples of those before it."""
        return isinstance(self.of, Adaptive)

    def learn(self, requests: Sequence[int], columns: Mapping[str, Sequence[float]]) -> None:
        """Takes the columns of finished requests."""
        if isinstance(self.of, Adaptive):
            self.of.learn(requests, columns)

    @classmethod
    def given(cls, how: Any, name: str, terms: int, n: int, seed: int) -> "Preferences":
        """The weights that an option stands for.

        Args:
            how: "grid=16", "dirichlet", or `n` rows of weights.
            name: The option, as errors spell it.
            terms: The number of rewards `T`.
            n: The number of requests.
            seed: The seed of the run.

        Raises:
            GuidedError: It is neither, or there is no such grid, or the rows do not fit.
        """
        if not isinstance(how, str):
            return cls(_Rows(_table(how, name, terms, n)))
        kind, _, number = how.partition("=")
        if how == "dirichlet":
            return cls(_Dirichlet(terms, seed))
        if kind != "grid" or not number.isdecimal() or not terms <= int(number) <= MOST:
            raise GuidedError(
                f"{name} is {how!r}; it is dirichlet, {ADAPTIVE}, or grid= with the number of vectors, from {terms}, "
                f"one for each reward, to {MOST}"
            )
        return cls(_Grid(torch.from_numpy(simplex(terms, int(number)))))


@dataclass(frozen=True)
class _Rows:
    table: Tensor

    def __call__(self, requests: Sequence[int]) -> Tensor:
        return self.table[list(requests)]


@dataclass(frozen=True)
class _Grid:
    table: Tensor

    def __call__(self, requests: Sequence[int]) -> Tensor:
        return self.table[torch.tensor(requests, device="cpu") % len(self.table)]


@dataclass(frozen=True)
class _Dirichlet:
    """Uniform over the simplex: exponential numbers, divided by their sum."""

    terms: int
    seed: int

    def __call__(self, requests: Sequence[int]) -> Tensor:
        u = Streams(self.seed, list(requests), purpose="preferences").uniform(self.terms).double()
        e = -(-u).log1p() + 1e-12  # never all 0
        return e / e.sum(1, keepdim=True)


def _table(rows: Any, name: str, terms: int, n: int) -> Tensor:
    try:
        table = torch.as_tensor(rows, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise GuidedError(f"{name} is {shown(rows)}; it must be n rows of weights, grid=16 or dirichlet") from error
    if table.shape != (n, terms):
        raise GuidedError(f"{name} has shape {tuple(table.shape)}; {n} samples and {terms} rewards need ({n}, {terms})")
    if not (table.isfinite().all() and (table >= 0).all() and (table.sum(1) > 0).all()):
        raise GuidedError(f"{name} has a weight that is not a finite number >= 0, or a row of zeros")
    return table / table.sum(1, keepdim=True)
