r"""The Gaussian process, for any pair of arrays :math:`\alpha_k, \sigma_k`:

.. math:: x_k = \alpha_k x + \sigma_k \epsilon

DDPM and DDIM have :math:`\alpha^2 + \sigma^2 = 1`, EDM has :math:`\alpha = 1`, rectified flow has
:math:`\alpha = 1 - t, \sigma = t`. With the clean mean :math:`y` and
:math:`\hat\epsilon = (x_k - \alpha_k y) / \sigma_k` a step from `t = k` to `s = k + 1` is

.. math:: x_s = \alpha_s y + \sqrt{\sigma_s^2 - \tau^2} \, \hat\epsilon + \tau z, \quad
    \tau^2 = \eta^2 \frac{\sigma_s^2}{\sigma_t^2} \Big( \sigma_t^2 - \sigma_s^2 \frac{\alpha_t^2}{\alpha_s^2} \Big)

so :math:`\eta = 1` is the ancestral step of DDPM and :math:`\eta = 0` the deterministic one of DDIM, and of the
Euler step of a rectified flow.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020)
    | https://arxiv.org/abs/2006.11239

    | Denoising Diffusion Implicit Models (Song et al., 2020)
    | https://arxiv.org/abs/2010.02502

    | Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow (Liu et al., 2022)
    | https://arxiv.org/abs/2209.03003
"""

__all__ = ["Gaussian"]

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import repeat
from torch import Tensor

from guided.core.continuous import Continuous
from guided.core.process import check_steps
from guided.core.random import Streams
from guided.errors import GuidedError

Grid = tuple[Sequence[float], Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Gaussian(Continuous):
    r"""Ancestral steps; the network predicts the clean mean.

    Args:
        event: The shape of a sample.
        alphas: The factor :math:`\alpha_k` of the data, `K + 1` numbers from noise to data.
        sigmas: The standard deviation :math:`\sigma_k` of the noise, `K + 1` numbers; sigma / alpha decreases.
        times: The times that the network is given, `K + 1` numbers.
        eta: The share of fresh noise, from 0 (deterministic) to 1 (ancestral).
        grid: Maps a number of steps to other `(alphas, sigmas, times)`, for :meth:`with_steps`.
        clip: The largest magnitude of a clean mean, as pixels have one; None for no bound.
        trained: Maps a number of levels to those that the network was trained at, evenly over its times, and the data,
            as `grid` does; None if it is not known.

    Raises:
        GuidedError: Lengths differ, sigma / alpha does not decrease, eta is outside [0, 1], or clip is not above 0.
    """

    event: tuple[int, ...]
    alphas: Sequence[float]
    sigmas: Sequence[float]
    times: Sequence[float]
    eta: float = 1.0
    grid: Callable[[int], Grid] | None = None
    clip: float | None = None
    trained: Callable[[int], Grid] | None = None

    predicts = "the clean means"

    def __post_init__(self) -> None:
        for name in ("alphas", "sigmas", "times"):  # Python floats: no device, no synchronisation
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        lengths = {len(self.alphas), len(self.sigmas), len(self.times)}
        if len(lengths) > 1 or len(self.times) < 2:
            raise GuidedError(
                f"alphas, sigmas and times have {len(self.alphas)}, {len(self.sigmas)} and {len(self.times)} entries; "
                "they must have the same number, at least 2"
            )
        if any(s >= t for t, s in zip(self.ratios, self.ratios[1:], strict=False)):
            raise GuidedError("sigmas / alphas must decrease from noise to data")
        if (
            self.alphas[-1] <= 0
            or any(a < 0 for a in self.alphas)
            or any(s <= 0 for s in self.sigmas[:-1])
            or self.sigmas[-1] < 0
        ):
            raise GuidedError("alphas must be at least 0, and above 0 at the end; sigmas above 0, at the end 0 or more")
        if not 0 <= self.eta <= 1:
            raise GuidedError(f"eta is {self.eta}; it must be in [0, 1]")
        if self.clip is not None and not self.clip > 0:
            raise GuidedError(f"clip is {self.clip}; it must be above 0")

    @property
    def ratios(self) -> list[float]:
        return [s / a if a > 0 else torch.inf for a, s in zip(self.alphas, self.sigmas, strict=True)]

    @property
    def output(self) -> tuple[int, ...]:
        return self.event

    @property
    def distribution(self) -> dict[str, Any]:
        grid = hashlib.sha256(json.dumps([self.alphas, self.sigmas, self.times]).encode()).hexdigest()
        return {"grid": grid[:16], "eta": self.eta, "clip": self.clip}

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    def stochastic(self, k: int) -> bool:
        return self.std(k) > 0

    def time(self, k: int) -> float:
        return self.times[k]

    def prior(self, N: int, streams: Streams) -> Tensor:
        """Draws from the marginal at `k = 0` of data with unit variance, as schedulers do."""
        return (self.alphas[0] ** 2 + self.sigmas[0] ** 2) ** 0.5 * streams.normal(N, *self.event)

    def propose(self, x: Tensor, y: Tensor, k: int, M: int, streams: Streams) -> Tensor:
        std, mean = self.std(k), repeat(self.mean(x, y, k), "B N ... -> B (N M) ...", M=M)
        return mean + std * streams.normal(*mean.shape[1:]) if std > 0 else mean

    def mean(self, x: Tensor, y: Tensor, k: int) -> Tensor:
        """The mean of the step from `k` to `k + 1`, with the shape of the particles."""
        (a_t, a_s), (s_t, s_s) = self.alphas[k : k + 2], self.sigmas[k : k + 2]
        y = self.estimate(x, y)
        eps = (x - a_t * y) / s_t
        return a_s * y + max(s_s**2 - self.std(k) ** 2, 0.0) ** 0.5 * eps

    def twisted(self, x: Tensor, y: Tensor, k: int, g: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        r"""Draws :math:`x_{k+1}` from :math:`\tilde p(x_{k+1}) \propto p(x_{k+1} \mid x_k) \exp(g \cdot x_{k+1})`.

        It is the step with its mean moved by :math:`\tau^2 g`.

        Returns:
            The states, and :math:`\log p / \tilde p` of each, with shape `(B, N)`.
        """
        std, mean = self.std(k), self.mean(x, y, k)
        if std == 0:
            return mean, mean.new_zeros(mean.shape[:2])
        z, by = streams.normal(*mean.shape[1:]), std * g
        return mean + std * z + std * by, -(by * (z + by / 2)).flatten(2).sum(2)

    def leaning(self, y: Tensor, k: int, g: Tensor) -> Tensor:
        r"""The clean means if `g` is added to the score, :math:`y + g \sigma_k^2 / \alpha_k` (Tweedie's formula).

        Where :math:`\alpha_k` is 0 nothing is known of the data, and they are as they were.
        """
        return y if self.alphas[k] == 0 else y + self.sigmas[k] ** 2 / self.alphas[k] * g

    def std(self, k: int) -> float:
        r"""The standard deviation :math:`\tau` of the fresh noise of the step from `k` to `k + 1`."""
        (a_t, a_s), (s_t, s_s) = self.alphas[k : k + 2], self.sigmas[k : k + 2]
        return float(self.eta * s_s / s_t * max(s_t**2 - (s_s * a_t / a_s) ** 2, 0.0) ** 0.5)

    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        return y if self.clip is None else y.clamp(-self.clip, self.clip)

    def noise(self, x: Tensor, k: int, streams: Streams) -> Tensor:
        return self.alphas[k] * x + self.sigmas[k] * streams.normal(*x.shape[1:])

    def with_steps(self, K: int) -> "Gaussian":
        if check_steps(K) == self.steps:
            return self
        if self.grid is None:
            raise GuidedError(f"this process was built for {self.steps} steps and has no grid for {K}")
        alphas, sigmas, times = self.grid(K)
        return replace(self, alphas=alphas, sigmas=sigmas, times=times)

    def strided(self, k: int, steps: int, drawn: bool = True) -> "Gaussian":
        at = [k + round(i * (self.steps - k) / steps) for i in range(steps + 1)]
        alphas, sigmas, times = ([array[j] for j in at] for array in (self.alphas, self.sigmas, self.times))
        return replace(self, alphas=alphas, sigmas=sigmas, times=times, eta=self.eta if drawn else 0.0)
