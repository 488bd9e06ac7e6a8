r"""Weights of rewards that are chosen in the run: each batch aims where the samples so far leave most room.

A corner c of the front (:func:`~guided.metrics.pareto.corners`) is the best point that one of its gaps has room for,
and its worth the hypervolume that it would add. The n-th request that aims at the same gap counts for 1/n of that, and
a batch takes the largest. The best sample of Tchebycheff's distance with the weights

.. math:: w_i \propto \frac{1}{1 - c_i}

lies on the ray from the ideal point 1 through c, so it fills the gap if anything does. The first batch takes an even
grid of weights. Nothing is drawn at random: the weights of a batch depend on the samples of the batches before it.

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

from guided.metrics.pareto import corners, gain, non_dominated, simplex

Array = NDArray[np.float64]
NEAR = 1e-3  # the least distance of a corner to the ideal


@dataclass
class Adaptive:
    """The weights of requests, whose batches are asked for in their order, after those before them are learnt.

    Args:
        names: The columns of the rewards, `T` of them.
        limits: The columns of the constraints.
        own: The rewards' own weights, which those of requests multiply.
    """

    names: Sequence[str]
    limits: Sequence[str]
    own: Sequence[float]
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
        if not self.scores:
            grid = simplex(len(self.names), n)
            return torch.from_numpy(grid[np.arange(n) % len(grid)])
        scores = np.array(self.scores)
        aims = self.aims(scores, n)
        weights = 1 / np.maximum(1 - aims, NEAR) / np.asarray(self.own)
        return torch.from_numpy(weights / weights.sum(1, keepdims=True))

    def aims(self, scores: Array, n: int) -> Array:
        """The corners that n requests aim at, with shape `(n, T)`."""
        reference = np.minimum(scores.min(0), 0.0).tolist()
        found = corners(scores, [1.0] * scores.shape[1])
        front = scores[non_dominated(scores)]
        worth = np.array([gain(corner, front, reference) for corner in found])
        times = np.zeros(len(found))
        chosen = []
        for _ in range(n):
            best = int((worth / (1 + times)).argmax())
            times[best] += 1
            chosen.append(found[best])
        return np.array(chosen)
