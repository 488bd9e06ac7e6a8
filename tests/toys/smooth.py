"""Rewards with gradients, and the laws of the small models that they tilt."""

import string

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.scoring.objective import Objective, resolve_reward
from guided.scoring.registry import register_reward
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Chain


def objective(function, takes: str = "latents") -> Objective:  # type: ignore[no-untyped-def]
    """The objective of a differentiable function; the registry should be a copy."""
    return resolve_reward(register_reward(f"smooth-{id(function)}", takes=takes, differentiable=True)(function))


def smooth(function, **options) -> PosteriorMean:  # type: ignore[no-untyped-def]
    return PosteriorMean(objective(function), **options)


def of_chain(chain: Chain, reward: Tensor) -> PosteriorMean:
    """A table's reward; of probabilities its mean over tokens that are drawn independently, a multilinear function."""
    table = reward[chain.index(chain.clean)].view(*[chain.V] * chain.L)
    letters = string.ascii_lowercase[: chain.L]

    def score(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return reward[chain.index(x)]
        return torch.einsum(f"{letters},{','.join('z' + c for c in letters)}->z", table, *x.double().unbind(1))

    return smooth(score)


def affine(model: Diffusion, mean: float = 0.0) -> list[tuple[float, float, float]]:
    """Of the toy Gaussian, for each step: x_{k+1} = A x_k + b + tau z, as (A, b, tau)."""
    process, found = model.process, []
    for k in range(process.steps):  # type: ignore[attr-defined]
        (a, a_s), (s, s_s), tau = process.alphas[k : k + 2], process.sigmas[k : k + 2], process.std(k)
        slope = a / (a * a + s * s)
        keep = max(s_s**2 - tau**2, 0.0) ** 0.5 / s
        A = a_s * slope + keep * (1 - a * slope)
        offset = mean * (1 - a * slope)
        found.append((A, a_s * offset - keep * a * offset, tau))
    return found


def law(model: Diffusion, mean: float = 0.0) -> tuple[float, float]:
    """The mean and the variance of the chain's own law, which is Gaussian."""
    m, v = 0.0, 1.0
    for A, b, tau in affine(model, mean):
        m, v = A * m + b, A * A * v + tau**2
    return m, v
