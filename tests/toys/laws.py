"""The tilted law of a small chain, and how far samples are from it."""

import torch
from torch import Tensor

from guided.core.particles import Particles
from guided.core.random import Streams
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Chain


def scores(chain: Chain) -> Tensor:
    """A reward of every state; it is never called on states with masks."""
    return torch.rand(len(chain.states), generator=torch.Generator().manual_seed(5)).double()


def looking_ahead(chain: Chain, reward: Tensor, draws: int = 1) -> PosteriorMean:
    return PosteriorMean(lambda x: reward[chain.index(x)], draws)


def tilted(chain: Chain, reward: Tensor, alpha: float) -> tuple[Tensor, float]:
    """p(x) exp(r(x) / alpha) / Z over all states, and Z."""
    weights = chain.distribution() * (reward / alpha).exp()
    return weights / weights.sum(), weights.sum().item()


def frequencies(chain: Chain, particles: Particles, w: Tensor | None = None) -> Tensor:
    """The share of each state, weighted by `w`, with shape `(B, N)`."""
    states = chain.index(particles.x)
    w = torch.ones(states.shape, dtype=torch.float64) if w is None else w
    total = torch.zeros(len(chain.states), dtype=torch.float64).index_add(0, states.flatten(), w.flatten())
    return total / w.sum()


def distance(p: Tensor, q: Tensor) -> float:
    """Total variation."""
    return 0.5 * (p - q).abs().sum().item()


def drawn(chain: Chain, sampler, value, n: int, seed: int = 0) -> Tensor:  # type: ignore[no-untyped-def]
    """The frequencies of `n` requests' samples."""
    return frequencies(chain, sampler(chain.model(), value, Streams(seed, range(n))))
