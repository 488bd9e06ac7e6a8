r"""A surrogate: a Gaussian process that predicts the rewards of samples from those that were scored.

.. math:: r \sim \mathcal{GP}(m, \sigma^2 (T + \lambda I)), \qquad T(a, b) = \frac{a \cdot b}{|a|^2 + |b|^2 - a \cdot b}

with Tanimoto's similarity of features, :math:`\lambda` small, and the mean :math:`m` and the scale :math:`\sigma^2` by
maximum likelihood. Of samples to be scored together the next one is that of the largest upper bound,
:math:`\mu + \beta \, \sigma_{a}`; the ones before are counted as known for the spread, which does not depend on
their rewards.

References:
    | GAUCHE: A Library for Gaussian Processes in Chemistry (Griffiths et al., 2022)
    | https://arxiv.org/abs/2212.04450

    | Graph kernels for chemical informatics (Ralaivola et al., 2005), the kernel
    | https://doi.org/10.1016/j.neunet.2005.07.009

    | Parallelizing Exploration-Exploitation Tradeoffs in Gaussian Process Bandit Optimization (Desautels et al., 2014)
    | https://jmlr.org/papers/v15/desautels14a.html
"""

__all__ = ["Surrogate", "tanimoto"]

import math
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from guided.metrics.features import feature_rows

MOST = 1000  # samples that it is fitted to: the best ones, and the last ones
NOISE = 1e-2  # lambda
DIGITS = 1e6  # of the rewards' spread; bounds that differ by less are equal


def tanimoto(a: Tensor, b: Tensor) -> Tensor:
    """The similarity of rows of zeros and ones, `(n, F)` and `(m, F)`, with shape `(n, m)`, in double precision.

    That of two rows without a one is 1.
    """
    common = (a.float() @ b.float().T).double()  # whole numbers below 2^24 are exact
    union = a.sum(1, dtype=torch.float64)[:, None] + b.sum(1, dtype=torch.float64) - common
    return torch.where(union > 0, common / union, 1.0)


class Surrogate:
    """What one request has learnt about its reward.

    It keeps at most `most` samples, half of them the best and half the last, and their similarities: 12 MB at 1,000.

    Args:
        modality: That of the model.
        beta: How much the spread adds to the mean; 0 for none.
        most: The number of samples.
        noise: lambda.

    Raises:
        GuidedError: There are no features of this modality.
    """

    def __init__(self, modality: str, beta: float = 1.0, most: int = MOST, noise: float = NOISE) -> None:
        self.modality, self.beta, self.most, self.noise = modality, beta, most, noise
        self.rows = self._features([])
        self.rewards = torch.zeros(0, dtype=torch.float64, device="cpu")
        self.kernel = torch.zeros(0, 0, dtype=torch.float64, device="cpu")
        self.asked: set[Hashable] = set()

    def _features(self, samples: Sequence[Any]) -> Tensor:
        return torch.from_numpy(feature_rows(self.modality, samples))

    def add(self, samples: Sequence[Any], rewards: Sequence[float], keys: Sequence[Hashable]) -> None:
        """Learns the rewards of samples that it did not know; those that are not finite only count as asked about."""
        new = {}
        for i, (key, reward) in enumerate(zip(keys, rewards, strict=True)):
            if key not in self.asked and math.isfinite(reward):
                new[i] = reward
            self.asked.add(key)
        if not new:
            return
        rows = self._features([samples[i] for i in new])
        across = tanimoto(rows, torch.cat([self.rows, rows]))
        self.kernel = torch.cat([torch.cat([self.kernel, across[:, : len(self.rows)].T], 1), across])
        self.rows = torch.cat([self.rows, rows])
        self.rewards = torch.cat([self.rewards, torch.tensor([*new.values()], dtype=torch.float64, device="cpu")])
        if len(self.rows) > self.most:
            self._forget()

    def _forget(self) -> None:
        """Keeps the last samples, and the best of the others, in their order."""
        last = self.most // 2
        best = self.rewards[:-last].argsort(descending=True, stable=True)[: self.most - last].sort().values
        keep = torch.cat([best, torch.arange(len(self.rewards) - last, len(self.rewards), device="cpu")])
        self.rows, self.rewards, self.kernel = self.rows[keep], self.rewards[keep], self.kernel[keep][:, keep]

    def posterior(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, with shape `(n,)`, and the covariance, `(n, n)`, of the rewards of rows of features."""
        identity = torch.eye(len(self.rows), dtype=torch.float64, device="cpu")
        root = torch.linalg.cholesky(self.kernel + self.noise * identity)
        one = torch.cholesky_solve(torch.ones_like(self.rewards)[:, None], root)[:, 0]
        m = (one @ self.rewards) / one.sum()
        solved = torch.cholesky_solve((self.rewards - m)[:, None], root)[:, 0]
        scale = ((self.rewards - m) @ solved) / len(self.rewards)
        across = tanimoto(rows, self.rows)
        half = torch.linalg.solve_triangular(root, across.T, upper=False)
        return m + across @ solved, scale * (tanimoto(rows, rows) - half.T @ half)

    def choose(self, samples: Sequence[Any], keys: Sequence[Hashable], n: int) -> list[int]:
        """Which `n` of at least as many samples are to be scored, the most promising first.

        Samples that are new and differ come first; repeated ones, which cost nothing, fill up what is left.
        """
        new: dict[Hashable, int] = {}
        for i, key in enumerate(keys):
            if key not in self.asked:
                new.setdefault(key, i)
        fresh = [*new.values()]
        if len(fresh) > n and len(self.rewards):
            fresh = [fresh[i] for i in self._bounds(self._features([samples[i] for i in fresh]), n)]
        return [*fresh, *(i for i in range(len(keys)) if i not in {*fresh})][:n]

    def _bounds(self, rows: Tensor, n: int) -> list[int]:
        """The rows of the largest upper bounds, one after the other."""
        mean, covariance = self.posterior(rows)
        unit = self.rewards.std(correction=0).item() / DIGITS or 1.0
        free, chosen = torch.zeros_like(mean), []
        for _ in range(n):
            spread = covariance.diagonal().clamp(min=0).sqrt()
            bound = ((mean + self.beta * spread) / unit).round() + free
            best = int(bound.argmax())
            chosen.append(best)
            free[best] = -torch.inf
            column = covariance[best]
            covariance = covariance - torch.outer(column, column) / (column[best] + self.noise).clamp(min=1e-300)
        return chosen
