"""Small models whose distributions are known exactly."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.gaussian import Gaussian
from guided.core.masked import Masked


class Counting:
    """A denoiser that counts what it is asked."""

    def __init__(self, fn: Callable[..., Tensor]) -> None:
        self.fn, self.rows, self.calls, self.largest = fn, 0, 0, 0
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        self.rows, self.calls, self.largest = self.rows + len(x), self.calls + 1, max(self.largest, len(x))
        self.seen.append(x)
        return self.fn(x, t, **cond)


def gaussian(K: int = 25, eta: float = 1.0, flow: bool = False, mean: Sequence[float] = (0.0, 0.0)) -> Diffusion:
    """Data N(mean, I) with its exact denoiser: E[x | x_k] = mean + alpha (x_k - alpha mean) / (alpha^2 + sigma^2)."""
    times = [1 - k / K for k in range(K + 1)]
    if flow:
        alphas, sigmas = [1 - t for t in times], times
    else:
        alphas = [math.cos(math.pi / 2 * 0.999 * t) for t in times]
        sigmas = [math.sqrt(1 - a * a) for a in alphas]
    table = {round(t, 6): (a, s) for t, a, s in zip(times, alphas, sigmas, strict=True)}
    mu = torch.tensor(mean)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        a, s = table[round(float(t[0]), 6)]
        return mu + a * (x - a * mu) / (a * a + s * s)

    return Diffusion(Counting(denoiser), Gaussian((len(mean),), alphas, sigmas, times, eta))


class Chain:
    """A distribution over all sequences of `L` tokens, and the masked model that knows its conditionals exactly.

    The model reveals tokens independently of one another in a step, so with few steps its own distribution is
    not the table's; `distribution` computes the chain's own, by pushing the one over all states forward.
    """

    def __init__(self, L: int = 3, V: int = 2, K: int = 3, seed: int = 0) -> None:
        self.L, self.V, self.K = L, V, K
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.rand(V**L, generator=generator).double().pow(2)
        self.table /= self.table.sum()
        self.states = torch.tensor(list(itertools.product(range(V + 1), repeat=L)))
        self.clean = torch.tensor(list(itertools.product(range(V), repeat=L)))
        self.process = Masked(L, V, K)
        self.conditionals = torch.stack([self._conditional(x) for x in self.states])

    def _conditional(self, x: Tensor) -> Tensor:
        """Log p(token at position l = v | the revealed tokens of x), with shape (L, V)."""
        fits = ((x == self.V) | (x == self.clean)).all(1) * self.table
        rows = [[fits[self.clean[:, position] == v].sum() for v in range(self.V)] for position in range(self.L)]
        p = torch.tensor(rows)
        return (p / p.sum(1, keepdim=True)).log()

    def index(self, x: Tensor) -> Tensor:
        return (x * (self.V + 1) ** torch.arange(self.L - 1, -1, -1)).sum(-1)

    def model(self, **options: object) -> Diffusion:
        denoiser = Counting(lambda x, t: self.conditionals[self.index(x)].float())
        return Diffusion(denoiser, self.process, timed=False, **options)  # type: ignore[arg-type]

    def transition(self, k: int) -> Tensor:
        """p(x_{k+1} | x_k) over all states, with shape (S, S)."""
        reveal = 1 - self.process.rate(k + 1) / self.process.rate(k)
        P = torch.ones(len(self.states), len(self.states), dtype=torch.float64)
        for position in range(self.L):
            now, then = self.states[:, None, position], self.states[None, :, position]
            p = self.conditionals[:, position].exp()  # (S, V)
            shown = reveal * torch.cat([p, torch.zeros(len(p), 1)], dim=1)[:, self.states[:, position]]
            kept = torch.where(then == self.V, 1 - reveal, shown)
            P *= torch.where(now == self.V, kept, (now == then).double())
        return P

    def distribution(self) -> Tensor:
        """The distribution of x_K over all states."""
        p = torch.zeros(len(self.states), dtype=torch.float64)
        p[-1] = 1.0  # all masked
        for k in range(self.K):
            p = p @ self.transition(k)
        return p

    def soft_values(self, reward: Tensor, alpha: float) -> list[Tensor]:
        """v_k(x) = alpha log E[exp(r(x_K) / alpha) | x_k = x] for k = 0..K, by dynamic programming; reward: (S,)."""
        h = [(reward / alpha).exp()]
        for k in reversed(range(self.K)):
            h.append(self.transition(k) @ h[-1])
        return [alpha * v.log() for v in reversed(h)]
