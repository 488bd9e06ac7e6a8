r"""A surrogate: a Gaussian process that predicts the rewards of samples from those that were scored.

.. math:: r \sim \mathcal{GP}(m, \sigma^2 (T + \lambda I)), \qquad T(a, b) = \frac{a \cdot b}{|a|^2 + |b|^2 - a \cdot b}

with Tanimoto's similarity of features, :math:`\lambda` small, and the mean :math:`m` by maximum likelihood. The
prediction is the posterior mean, on which :math:`\sigma^2` has no effect. The spread is not added to it: to explore is
the part of those who draw the samples.

References:
    | GAUCHE: A Library for Gaussian Processes in Chemistry (Griffiths et al., 2022)
    | https://arxiv.org/abs/2212.04450

    | Graph kernels for chemical informatics (Ralaivola et al., 2005), the kernel
    | https://doi.org/10.1016/j.neunet.2005.07.009
"""

__all__ = ["Surrogate", "tanimoto"]

import math
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from guided.metrics.features import feature_rows

MOST = 600  # samples that it is fitted to: the last ones, and the best of the others
NOISE = 1e-2  # lambda
DIGITS = 1e6  # of the rewards' spread; predictions that differ by less are equal


def tanimoto(a: Tensor, b: Tensor) -> Tensor:
    """The similarity of rows of zeros and ones, `(n, F)` and `(m, F)`, with shape `(n, m)`, in double precision.

    That of two rows without a one is 1.
    """
    common = (a.float() @ b.float().T).double()  # whole numbers below 2^24 are exact
    union = a.sum(1, dtype=torch.float64)[:, None] + b.sum(1, dtype=torch.float64) - common
    return torch.where(union > 0, common / union, 1.0)


class Surrogate:
    """What one request has learnt about its reward.

    It keeps at most `most` samples, half of them the last and half the best of the others, and their similarities: 5 MB
    for 600.

    Args:
        modality: That of the model.
        most: The number of samples.
        noise: lambda.

    Attributes:
        asked: What the samples share that were asked about.
        rows: The features of those that it is fitted to, with shape `(n, F)`.
        rewards: Their rewards, with shape `(n,)`.
        kernel: Their similarities, with shape `(n, n)`.

    Raises:
        GuidedError: There are no features of this modality.
    """

    def __init__(self, modality: str, most: int = MOST, noise: float = NOISE) -> None:
        self.modality, self.most, self.noise = modality, most, noise
        self.asked: set[Hashable] = set()
        self.restart()

    def restart(self) -> None:
        """Forgets the rewards, but not which samples were asked about."""
        self.rows = self._features([])
        self.rewards = torch.zeros(0, dtype=torch.float64, device="cpu")
        self.kernel = torch.zeros(0, 0, dtype=torch.float64, device="cpu")

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

    def predict(self, samples: Sequence[Any]) -> Tensor:
        """The rewards that are expected of samples, with shape `(n,)`, once some are known."""
        noisy = self.kernel.clone()
        noisy.diagonal().add_(self.noise)
        both = torch.stack([torch.ones_like(self.rewards), self.rewards], 1)
        one, solved = torch.cholesky_solve(both, torch.linalg.cholesky(noisy)).T
        m = solved.sum() / one.sum()
        return m + tanimoto(self._features(samples), self.rows) @ (solved - m * one)

    def choose(self, samples: Sequence[Any], keys: Sequence[Hashable], n: int) -> list[int]:
        """Which `n` of at least as many samples are to be scored, the most promising first.

        Samples that are new and differ come first; repeated ones, which cost nothing, fill up what is left.
        """
        new: dict[Hashable, int] = {}
        for i, key in enumerate(keys):
            if key not in self.asked:
                new.setdefault(key, i)
        fresh = [*new.values()]
        if len(fresh) > 1 and len(self.rewards):
            unit = self.rewards.std(correction=0).item() / DIGITS or 1.0
            expected = (self.predict([samples[i] for i in fresh]) / unit).round()
            fresh = [fresh[i] for i in expected.argsort(descending=True, stable=True).tolist()]
        return [*fresh, *(i for i in range(len(keys)) if i not in {*fresh})][:n]
