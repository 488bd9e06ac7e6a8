"""The noisy levels of a Gaussian process on a grid of its own choice, one of them for each row."""

__all__ = ["Levels", "fine_levels"]

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from guided.gaussian import Gaussian


@dataclass(frozen=True)
class Levels:
    """All levels with noise, from the noisiest on.

    Arguments:
        alphas: The factors of the data, with shape `(K,)`.
        sigmas: The standard deviations of the noise, with shape `(K,)`, all above 0.
        times: What the network is told, with shape `(K,)`.
    """

    alphas: Tensor
    sigmas: Tensor
    times: Tensor

    def at(self, k: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Alpha and sigma of the levels `k`, `(n,)`, as they go with rows `x`, `(n, *event)`, and times `(n,)`."""
        shape = (-1, *[1] * (x.ndim - 1))
        alphas, sigmas, times = (level.to(x.device)[k] for level in (self.alphas, self.sigmas, self.times))
        return alphas.view(shape), sigmas.view(shape), times

    def noisier(self, other: "Levels", k: Tensor, u: Tensor) -> Tensor:
        """A level of these that is noisier than the levels `k` of others, `(n,)`, chosen by `u` in [0, 1)."""
        counts = (self.ratios[None] > other.ratios[:, None] * (1 + 1e-6)).sum(1).to(k.device)
        return (u * counts[k]).long().clamp(min=0)

    @property
    def ratios(self) -> Tensor:
        return torch.where(self.alphas > 0, self.sigmas / self.alphas, torch.inf).double()


@lru_cache(maxsize=8)
def fine_levels(process: Gaussian, K: int) -> Levels:
    """The noisy levels of a process in `K` steps, or in its own number where it has no other grid."""
    grid: Any = process if process.grid is None else process.with_steps(K)
    alphas, sigmas, times = (torch.tensor(level) for level in (grid.alphas, grid.sigmas, grid.times))
    noisy = sigmas > 0
    noisy[-1] = False  # the data themselves, or as near as the process comes
    return Levels(alphas[noisy], sigmas[noisy], times[noisy])
