"""A population for each request: the best distinct samples, parents by rank, and a memory against sameness."""

__all__ = ["PENALTIES", "Population"]

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from guided.metrics.pareto import ranked
from guided.samplers.surrogate import Surrogate

TOP = 10  # members by which it is told whether a population gets better

#: What is left of a reward when `n` samples of its bucket were kept, of at most `size`: REINVENT's shapes.
PENALTIES: dict[str, Callable[[int, int], float]] = {
    "none": lambda n, size: 1.0,
    "step": lambda n, size: float(n < size),
    "linear": lambda n, size: max(0.0, 1 - n / size),
    "sigmoid": lambda n, size: 1 - 1 / (1 + math.exp(-(2 * n / size - 1) / 0.15)),
}


class Population:
    """The best samples of one request, by one score or by the fronts of several.

    Args:
        size: How many it holds.
        penalty: One of `PENALTIES`.
        room: The number of samples of a bucket at which the penalty is largest.
        surrogate: What chooses the children that are scored; None where all of them are.

    Attributes:
        step: The size of the trust region, for populations of noise.
    """

    def __init__(self, size: int, penalty: str = "none", room: int = 25, surrogate: Surrogate | None = None) -> None:
        self.size, self.penalty, self.room, self.surrogate = size, PENALTIES[penalty], room, surrogate
        self.genomes: list[Tensor] = []
        self.scores: list[tuple[float, ...]] = []
        self.step = 0.5
        self._tops: list[float] = []  # after each round, the mean of the ten best by the first score
        self._seen: set[Hashable] = set()
        self._buckets: Counter[Any] = Counter()

    def __len__(self) -> int:
        return len(self.genomes)

    def add(
        self,
        genomes: Sequence[Tensor],
        scores: Sequence[Sequence[float]],
        keys: Sequence[Hashable],
        buckets: Sequence[Hashable],
    ) -> None:
        """Adds samples that were not seen before, and keeps the best by their penalised scores.

        Args:
            genomes: What children are made of.
            scores: Those of each; samples with one that is not finite are left out.
            keys: What equal samples share.
            buckets: What samples share that are too much alike.
        """
        for genome, own, key, bucket in zip(genomes, scores, keys, buckets, strict=True):
            if key in self._seen or not all(map(math.isfinite, own)):
                continue
            self._seen.add(key)
            self.genomes.append(genome)
            self.scores.append(tuple(self._penalised(score, self._buckets[bucket]) for score in own))
            self._buckets[bucket] += 1
        order = self._order()[: self.size]
        self.genomes, self.scores = [self.genomes[i] for i in order], [self.scores[i] for i in order]
        if len(order) >= min(TOP, self.size):  # the mean of fewer would fall as members join
            self._tops.append(fmean(score[0] for score in self.scores[:TOP]))

    def stale(self, rounds: int) -> bool:
        """Whether the last so many rounds brought less than a hundredth of what its ten best have gained in all."""
        tops = self._tops
        return len(tops) > rounds and tops[-1] - tops[-1 - rounds] <= (tops[-1] - tops[0]) / 100

    def restart(self) -> None:
        """Forgets its members and what was learnt from them, but not which samples were seen."""
        self.genomes, self.scores, self._tops, self.step = [], [], [], 0.5
        if self.surrogate is not None:
            self.surrogate.restart()

    def _order(self) -> list[int]:
        """The members, the best first."""
        if self.scores and len(self.scores[0]) > 1:
            return ranked(torch.tensor(self.scores, dtype=torch.float64, device="cpu").numpy())
        return sorted(range(len(self)), key=lambda i: -self.scores[i][0])

    def adapt(self, better: bool) -> None:
        """Moves the size of the trust region: larger after a round that found a better sample, otherwise smaller."""
        self.step = min(1.0, 1.5 * self.step) if better else max(0.02, 0.8 * self.step)

    def _penalised(self, reward: float, n: int) -> float:
        """A reward below 0 is made worse by the penalty, too."""
        left = self.penalty(n, self.room)
        return reward * left if reward > 0 else reward - (1 - left) * max(1.0, abs(reward))

    def parents(self, noise: Tensor, pressure: float) -> list[int]:
        """Draws as many members as Gumbel numbers are given, with shape `(n, size)`: the r-th best with probability
        proportional to `1 / (pressure size + r)`.
        """
        weights = torch.tensor([-math.log(pressure * len(self) + r + 1) for r in range(len(self))], device="cpu")
        chosen: list[int] = (weights + noise[:, : len(self)]).argmax(1).tolist()
        return chosen
