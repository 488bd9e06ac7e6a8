"""The noise levels of a Gaussian process, those of sampling and those of training."""

__all__ = ["Levels", "check_kind", "sampling_levels", "training_levels"]

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from guided.core.blocks import Blocks
from guided.core.gaussian import Gaussian, Grid
from guided.errors import GuidedError


@dataclass(frozen=True)
class Levels:
    """All levels with noise, the noisiest first.

    Args:
        alphas: The factors of the data, with shape `(K,)`.
        sigmas: The standard deviations of the noise, with shape `(K,)`, all above 0.
        times: The times that the network is given, with shape `(K,)`.
    """

    alphas: Tensor
    sigmas: Tensor
    times: Tensor

    @classmethod
    def of(cls, grid: Grid) -> "Levels":
        """The levels of a grid without the last one, which is the data or closest to it."""
        alphas, sigmas, times = (torch.tensor(level, dtype=torch.float32, device="cpu") for level in grid)
        noisy = sigmas > 0
        noisy[-1] = False
        return cls(alphas[noisy], sigmas[noisy], times[noisy])

    def at(self, k: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Alpha and sigma of the levels `k`, `(n,)`, shaped to multiply rows `x`, `(n, *event)`; and times `(n,)`."""
        shape = (-1, *[1] * (x.ndim - 1))
        alphas, sigmas, times = (level.to(x.device)[k] for level in (self.alphas, self.sigmas, self.times))
        return alphas.view(shape), sigmas.view(shape), times

    def noisier(self, other: "Levels", k: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """A level of these that is noisier than the levels `k` of `other`, `(n,)`, chosen by `u` in [0, 1); and whether
        there is one.
        """
        counts = (self.ratios[None] > other.ratios[:, None] * (1 + 1e-6)).sum(1).to(k.device)[k]
        return (u * counts).long(), counts > 0

    @property
    def ratios(self) -> Tensor:
        return torch.where(self.alphas > 0, self.sigmas / self.alphas, torch.inf).double()


@lru_cache(maxsize=8)
def sampling_levels(process: Gaussian, K: int) -> Levels:
    """The noise levels of a process in `K` steps, or in its own number of steps if it has no other grid.

    Raises:
        GuidedError: There is no such grid.
    """
    grid = process if process.grid is None else process.with_steps(K)
    return Levels.of((grid.alphas, grid.sigmas, grid.times))


@lru_cache(maxsize=8)
def training_levels(process: Gaussian, T: int) -> Levels:
    """`T` noise levels that the network was trained at; if these are unknown, those of `T` sampling steps.

    Raises:
        GuidedError: There are no such levels.
    """
    return sampling_levels(process, T) if process.trained is None else Levels.of(process.trained(T))


def check_kind(process: Any) -> None:
    """Refuses a process that no method is written for.

    Raises:
        GuidedError: It draws its tokens in blocks.
    """
    if isinstance(process, Blocks):
        raise GuidedError(
            "a negative checkpoint cannot be trained of text in blocks yet: its rows are more than tokens"
        )
