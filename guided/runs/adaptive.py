r"""Weights of rewards that are chosen in the run: each batch aims where the samples so far leave most room.

A gap of the front (:func:`~guided.metrics.pareto.gaps`) lies between two points a and b. Its corner c, the best of both
in each score, is the best point that it has room for, and its worth the hypervolume that the corner would add. The n-th
request that aims at the same gap counts for 1/n of that, and a batch takes the largest. The weights of a gap are

- for a mean, or a product (of logarithms), those by which a and b are equally good, so that what is better than both
  lies beyond the line through them: :math:`w_i \propto 1 / |a_i - b_i|`, where the scores in which a is better have as
  much weight together as those in which b is;
- for Tchebycheff's distance :math:`w_i \propto 1 / (1 - c_i)`, those of the ray from the ideal point 1 through c.

The first batch takes an even grid of weights. Nothing is drawn at random: the weights of a batch depend on the samples
of the batches before it.

References:
    | MOEA/D with Adaptive Weight Adjustment (Qi et al., 2014), for weights through sparse parts of a front
    | https://doi.org/10.1162/EVCO_a_00109
"""

__all__ = ["Adaptive"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guided.metrics.pareto import gain, gaps, non_dominated, simplex

Array = NDArray[np.float64]
NEAR = 1e-3  # the least distance of a corner to the ideal, and the least score of a product
EDGE = 0.2  # of the largest weight: that of scores in which both sides of a gap are equal


@dataclass
class Adaptive:
    """The weights of requests, whose batches are asked for in their order, after those before them are learnt.

    Args:
        names: The columns of the rewards, `T` of them.
        limits: The columns of the constraints.
        own: The rewards' own weights, which those of requests multiply.
        aggregate: How the rewards become one number.
    """

    names: Sequence[str]
    limits: Sequence[str]
    own: Sequence[float]
    aggregate: str = "mean"
    weights: dict[int, Tensor] = field(default_factory=dict)
    scores: list[Array] = field(default_factory=list)

    def __call__(self, requests: Sequence[int]) -> Tensor:
        """The weights of a batch, with shape `(b, T)`; those of a request stay as they are."""
        if any(i not in self.weights for i in requests):
            self.weights |= dict(zip(requests, self.chosen(len(requests)), strict=True))
        return torch.stack([self.weights[i] for i in requests])

    def learn(self, requests: Sequence[int], columns: Mapping[str, Sequence[float]]) -> None:
        """Takes the scores of finished requests, and the weights that they had."""
        weights = np.array([columns[f"{name}_weight"] for name in self.names], dtype=np.float64).T
        self.weights |= dict(zip(requests, torch.from_numpy(weights), strict=True))
        scores = np.array([columns[name] for name in self.names], dtype=np.float64).T
        held = np.array([columns[name] for name in self.limits], dtype=np.float64).reshape(-1, len(scores)) >= 0
        self.scores += [*scores[np.isfinite(scores).all(1) & held.all(0)]]

    def chosen(self, n: int) -> Tensor:
        """The weights of the next n requests, with shape `(n, T)`."""
        found = gaps(np.array(self.scores), [1.0] * len(self.names)) if self.scores else np.empty(0)
        if not len(found):
            grid = simplex(len(self.names), n)
            return torch.from_numpy(grid[np.arange(n) % len(grid)])
        weights = np.array([self.across(*gap) for gap in found]) / np.asarray(self.own)
        weights /= weights.sum(1, keepdims=True)
        return torch.from_numpy(weights[self.aims(found, n)])

    def aims(self, found: Array, n: int) -> list[int]:
        """The gaps that n requests aim at, as positions."""
        scores = np.array(self.scores)
        reference, front = np.minimum(scores.min(0), 0.0).tolist(), scores[non_dominated(scores)]
        worth = np.array([gain(corner, front, reference) for corner in found.max(1)])
        times, chosen = np.zeros(len(found)), []
        for _ in range(n):
            chosen.append(int((worth / (1 + times)).argmax()))
            times[chosen[-1]] += 1
        return chosen

    def across(self, a: Array, b: Array) -> Array:
        """The weights that look across a gap between two points, with shape `(T,)`."""
        if self.aggregate == "tchebycheff":
            return np.asarray(1 / np.maximum(1 - np.maximum(a, b), NEAR))
        if self.aggregate == "product":
            a, b = (np.log(np.maximum(point, NEAR)) for point in (a, b))
        weights = np.zeros(len(a))
        for better in (a > b, b > a):
            weights[better] = 1 / np.abs(a - b)[better] / max(1, better.sum())
        return np.where(weights > 0, weights, EDGE * max(weights.max(), NEAR))
