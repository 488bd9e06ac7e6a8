"""Budgets: what each request may spend, and what it has spent.

A budget is each request's own, so what a request draws depends neither on the number of requests nor on those that are
drawn beside it. Calls of the reward are counted after duplicates: a sample that the request asked for before is free,
and one that another request asked for is not.
"""

__all__ = ["Curve", "Spending"]

import heapq
import time
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from guided.core.budget import Budget

TOP = 10
_MARKS = (1, 2, 3, 5, 7)  # calls of each power of ten at which a curve has a point


@dataclass(frozen=True)
class Curve:
    """After so many calls: the best reward so far, and the mean of the ten best, each averaged over requests."""

    call: int
    best: float
    top: float


@dataclass
class _Account:
    """What one request has spent."""

    rows: int = 0
    calls: dict[Hashable, int] = field(default_factory=dict)  # the call at which each sample was first scored
    rewards: list[float] = field(default_factory=list)  # in the order of calls
    stopped: bool = False


class Spending:
    """The accounts of `B` requests.

    Args:
        B: The number of requests.
        budget: What each of them may spend.
    """

    def __init__(self, B: int, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self.accounts = [_Account() for _ in range(B)]
        self.start = time.perf_counter()

    def __len__(self) -> int:
        return len(self.accounts)

    @property
    def stopped(self) -> int:
        """The number of requests whose budget kept them from something."""
        return sum(account.stopped for account in self.accounts)

    def over(self) -> bool:
        """Whether the seconds are over; the requests count as stopped then."""
        limit = self.budget.seconds
        late = limit is not None and time.perf_counter() - self.start >= limit
        for account in self.accounts if late else ():
            account.stopped = True
        return late

    def select(self, requests: Sequence[int]) -> "Spending":
        """The accounts of some of the requests; they are the same accounts."""
        part = copy(self)
        part.accounts = [self.accounts[i] for i in requests]
        return part

    def count(self, request: Tensor, cost: int = 1) -> None:
        """Counts rows of the network by the request of each, with shape `(n,)`, where there is a bound."""
        if self.budget.rows is not None:
            for account, rows in zip(self.accounts, request.bincount(minlength=len(self)).tolist(), strict=True):
                account.rows += rows * cost

    def open(self, rows: int = 0, calls: int = 1) -> list[int]:
        """The requests that may spend at least so much more, as positions; the others count as stopped."""
        late, limits = self.over(), self.budget
        found = []
        for i, account in enumerate(self.accounts):
            spent = limits.rows is not None and account.rows + rows > limits.rows
            asked = limits.calls is not None and len(account.calls) + calls > limits.calls
            if late or spent or asked:
                account.stopped = True
            else:
                found.append(i)
        return found

    def chains(self, N: int, rows: int) -> int:
        """How many of `N` chains of so many rows each request can pay for: at least 1."""
        most = [N if limit is None else limit // each for limit, each in self._prices(rows)]
        paid = max(1, min(N, *most))
        if paid < N:
            for account in self.accounts:
                account.stopped = True
        return paid

    def _prices(self, rows: int) -> list[tuple[int | None, int]]:
        return [(self.budget.calls, 1), (self.budget.rows, max(1, rows))]

    def claim(
        self, index: Tensor, keys: Sequence[Hashable], keep: int = 0
    ) -> tuple[Tensor, list[tuple[int, int, int]]]:
        """Gives calls to samples that were not scored before, particle after particle, while there are calls left.

        Args:
            index: The samples of each particle's draws, with shape `(B, N, D)`.
            keys: What equal samples share.
            keep: The number of calls that are not given away.

        Returns:
            Which particles may be scored, with shape `(B, N)`: those of which no sample is left without a call; and
            the new calls in their order, each as a request, a particle and a draw.
        """
        limit = None if self.budget.calls is None else self.budget.calls - keep
        paid = torch.ones(index.shape[:2], dtype=torch.bool, device="cpu")
        new: list[tuple[int, int, int]] = []
        for b, (account, particles) in enumerate(zip(self.accounts, index.tolist(), strict=True)):
            for n, samples in enumerate(particles):
                fresh = {keys[i]: d for d, i in enumerate(samples) if keys[i] not in account.calls}
                if limit is not None and len(account.calls) + len(fresh) > limit:
                    paid[b, n], account.stopped = False, True
                    continue
                for key, d in fresh.items():
                    account.calls[key] = len(account.calls) + 1
                    new.append((b, n, d))
        return paid, new

    def note(self, new: Sequence[tuple[int, int, int]], rewards: Sequence[Sequence[Sequence[float]]]) -> None:
        """Notes the rewards of new calls, those of `claim`; all rewards have shape `(B, N, D)`."""
        for b, n, d in new:
            self.accounts[b].rewards.append(rewards[b][n][d])

    def found(self, keys: Sequence[Hashable], rewards: Sequence[float]) -> list[int]:
        """The call at which the sample of each request was first scored; one that was not takes a call now."""
        for account, key, reward in zip(self.accounts, keys, rewards, strict=True):
            if key not in account.calls:
                account.calls[key] = len(account.calls) + 1
                account.rewards.append(reward)
        return [account.calls[key] for account, key in zip(self.accounts, keys, strict=True)]

    def curve(self) -> list[Curve]:
        """What was found after how many calls, at about five points of each power of ten."""
        most = max((len(account.rewards) for account in self.accounts), default=0)
        marks = [m * 10**e for e in range(len(str(most))) for m in _MARKS if m * 10**e < most] + [most] * (most > 0)
        table = np.array([_best(account.rewards, marks) for account in self.accounts if account.rewards])
        points = []
        for i, call in enumerate(marks):
            best, top = (_mean(table[:, i, j]) for j in (0, 1))
            points.append(Curve(call, best, top))
        return points


def _best(rewards: Sequence[float], marks: Sequence[int]) -> list[tuple[float, float]]:
    """The best of the first rewards and the mean of their ten best, for each number of them."""
    best: list[float] = []
    found, done = [], 0
    for mark in marks:
        best = heapq.nlargest(TOP, [*best, *rewards[done:mark]])
        found.append((best[0], sum(best) / len(best)))
        done = mark
    return found


def _mean(numbers: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    finite = numbers[np.isfinite(numbers)]
    return float(finite.mean()) if len(finite) else float("nan")
