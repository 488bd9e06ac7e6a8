"""A mixture of Gaussians on the line with its exact denoiser, and the laws of its chain by quadrature."""

import math

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.gaussian import Gaussian
from guided.core.particles import Particles
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Counting

WEIGHTS, MEANS, STD = torch.tensor([0.7, 0.3]).double(), torch.tensor([-1.0, 1.5]).double(), 0.4
ALPHA = 1.25
EDGES = torch.tensor([-2.2, -1.6, -1.3, -1.0, -0.7, -0.2, 0.5, 1.1, 1.5, 1.9, 2.4, 3.0]).double()
GRID = torch.linspace(-5, 5, 701, dtype=torch.float64)


def reward(x: Tensor) -> Tensor:
    """Linear, so that the tilted mixture is a mixture: weights w exp(mu / alpha), means mu + s^2 / alpha."""
    return x[..., 0].double()


def closed_form() -> tuple[Tensor, float]:
    """The shares of the bins under the tilted mixture, and log Z."""
    log_w = WEIGHTS.log() + MEANS / ALPHA + STD**2 / (2 * ALPHA**2)
    below = 0.5 * (1 + torch.erf((EDGES[:, None] - MEANS - STD**2 / ALPHA) / (STD * math.sqrt(2))))
    edges = torch.cat([torch.zeros(1, 2).double(), below, torch.ones(1, 2).double()])
    return edges.diff(dim=0) @ log_w.softmax(0), log_w.logsumexp(0).item()


def denoised(x: Tensor, a: float, s: float) -> Tensor:
    """E[x | x_k]: components by their odds, each with its own clean mean."""
    var = a * a * STD**2 + s * s
    x = x.double()[..., None]
    odds = (WEIGHTS.log() - (x - a * MEANS).square() / (2 * var)).softmax(-1)
    return (odds * (MEANS + a * STD**2 / var * (x - a * MEANS))).sum(-1)


def mixture(K: int = 8) -> Diffusion:
    times = [1 - k / K for k in range(K + 1)]
    alphas = [math.cos(math.pi / 2 * 0.999 * t) for t in times]
    sigmas = [math.sqrt(1 - a * a) for a in alphas]
    table = {round(t, 6): (a, s) for t, a, s in zip(times, alphas, sigmas, strict=True)}

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return denoised(x, *table[round(float(t[0]), 6)]).to(x.dtype)

    return Diffusion(Counting(denoiser), Gaussian((1,), alphas, sigmas, times))


class Line:
    """The chain's laws on a grid.

    Attributes:
        kernels: p(x_{k+1} | x_k) for the steps with noise, with shape (S, S) each.
        end: x_K for each state before the last step, which has no noise, with shape (S,).
        h: E[exp(r(x_K) / alpha) | x_k] for k = 0..K-1, with shape (S,) each.
    """

    def __init__(self, model: Diffusion) -> None:
        process: Gaussian = model.process  # type: ignore[assignment]
        self.model, self.K, self.kernels = model, process.steps, []
        for k in range(self.K):
            mean = self._mean(process, GRID, k)
            if process.std(k) == 0:
                self.end = mean
                between = torch.cat([GRID[:1], (GRID[1:] + GRID[:-1]) / 2, GRID[-1:]])
                self.ends = self._mean(process, between, k)  # it is monotone
                break
            P = (-0.5 * ((GRID - mean[:, None]) / process.std(k)).square()).exp()
            self.kernels.append(P / P.sum(1, keepdim=True))
        self.h = [(self.end / ALPHA).exp()]
        for P in reversed(self.kernels):
            self.h.insert(0, P @ self.h[0])

    def _mean(self, process: Gaussian, x: Tensor, k: int) -> Tensor:
        return process.mean(x, denoised(x, process.alphas[k], process.sigmas[k]), k)

    @property
    def start(self) -> Tensor:
        p = (-0.5 * GRID.square()).exp()
        return p / p.sum()

    def law(self) -> tuple[Tensor, float]:
        """The shares of the bins under the tilted law of the chain, and log Z."""
        p = self.start
        for P in self.kernels:
            p = p @ P
        p = p * (self.end / ALPHA).exp()
        return self._bins(p / p.sum()), p.sum().log().item()

    def law_given_start(self) -> Tensor:
        """The shares of the bins where each x_0 is the prior's, and the rest is tilted."""
        p = self.start
        for P, h, after in zip(self.kernels, self.h, self.h[1:], strict=False):
            p = (p / h) @ P * after
        return self._bins(p)

    def _bins(self, p: Tensor) -> Tensor:
        """By the distribution function of x_K, between the grid's cells on straight lines."""
        below = torch.cat([torch.zeros(1).double(), p.cumsum(0)])
        right = torch.searchsorted(self.ends, EDGES).clamp(1, len(GRID))
        left, width = self.ends[right - 1], self.ends[right] - self.ends[right - 1]
        inner = below[right - 1] + ((EDGES - left) / width).clamp(0, 1) * p[right - 1]
        return torch.cat([torch.zeros(1).double(), inner, torch.ones(1).double()]).diff()


class SoftValue:
    """The exact soft value of the chain; at the last step the reward."""

    def __init__(self, line: Line) -> None:
        self.v = [ALPHA * h.log() for h in line.h]

    def __call__(self, particles: Particles, alpha: float) -> Tensor:
        if particles.done:
            return PosteriorMean(reward)(particles, alpha)
        place = (particles.x[..., 0].double() - GRID[0]) / (GRID[1] - GRID[0])
        left, v = place.floor().long().clamp(0, len(GRID) - 2), self.v[particles.k]
        return v[left] + (place - left) * (v[left + 1] - v[left])


def shares(x: Tensor, w: Tensor | None = None) -> Tensor:
    """The shares of the bins among samples, with shape `(B, N, 1)`, weighted by `w`, `(B, N)`."""
    bins = torch.bucketize(x[..., 0].double().contiguous(), EDGES)
    w = torch.ones(bins.shape, dtype=torch.float64) if w is None else w
    return torch.zeros(len(EDGES) + 1).double().index_add(0, bins.flatten(), w.flatten()) / w.sum()
