r"""Sequential Monte Carlo (Feynman-Kac steering), for the law :math:`p(x_K) \exp(r(x_K) / \alpha) / Z`.

`N` particles of each request move as the model does. After each step that looks ahead, each has the potential
:math:`\lambda_k U_k`, and where the effective sample size is low they are resampled by their weights:

.. math:: \log G_k = \lambda_k U_k - \lambda_{k-1} U_{k-1}, \quad \lambda_k \le 1 / \alpha, \quad
    U_K = r(x_K), \ \lambda_K = 1 / \alpha

Whatever the :math:`U_k` before, the product of all is :math:`\exp(r(x_K) / \alpha)`, so that the law is exact as N
grows, with an error of order 1/N, and the estimate of Z is unbiased for any N. Where a look-ahead has no value
(-inf), its path keeps the :math:`U` that it had, or none, with the weight 1: only a sample without a reward is lost.

Cost: `N K` network rows a request, and `N` reward calls for each step that looks ahead and for the end. Steps without
noise, and the last one that has any, do not look ahead: there is nothing left to choose.

References:
    | A General Framework for Inference-time Scaling and Steering of Diffusion Models (Singhal et al., 2025)
    | https://arxiv.org/abs/2501.06848

    | Test-time Alignment of Diffusion Models without Reward Over-optimization (Kim et al., 2025)
    | https://arxiv.org/abs/2501.05803
"""

__all__ = ["SMC", "Weighted"]

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.process import Process
from guided.core.random import Streams
from guided.core.resampling import SCHEMES, choose, ess
from guided.errors import check_number
from guided.samplers.base import register_sampler
from guided.samplers.schedule import check_choice, check_interval, look_ahead_steps
from guided.samplers.weights import HUGE, POTENTIALS, Weights
from guided.values.protocol import Value


@dataclass(frozen=True)
class Weighted:
    """All particles at the last step.

    Attributes:
        particles: With shape `(B, N, *event)`.
        log_w: Their log-weights, with shape `(B, N)`, in double precision on the CPU.
        log_Z: The estimate of the log-normaliser of each request, with shape `(B,)`.
    """

    particles: Particles
    log_w: Tensor
    log_Z: Tensor


@register_sampler("smc")
@dataclass(frozen=True)
class SMC:
    r"""Draws one of N weighted particles, which are resampled on the way.

    Args:
        N: The number of particles.
        alpha: The temperature, in units of the reward, above 0.
        potential: :math:`U_k`: "difference" is the value, "max" the largest so far, "sum" the sum so far.
        resampling: The scheme: ssp, systematic, residual, stratified or multinomial.
        threshold: The share of N below which the effective sample size leads to resampling; 1 for every step, 0 for
            none.
        rise: :math:`\lambda_k = (k / K)^{rise} / \alpha`; 0 for the full temperature from the start.
        target: The share of N at which the effective sample size is held by lowering :math:`\lambda_k`; 0 for none.
        every: Every j-th step looks ahead, counted back from the last one that has noise.
        interval: The part of the run, from 0 (noise) to 1 (data), in which steps look ahead.

    Raises:
        GuidedError: A number is out of range, or a name is unknown.
    """

    N: int = 8
    alpha: float = 0.1
    potential: str = "difference"
    resampling: str = "ssp"
    threshold: float = 0.5
    rise: float = 1.0
    target: float = 0.0
    every: int = 1
    interval: tuple[float, float] = (0.0, 1.0)

    guides: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, most in (("threshold", 1), ("target", 1), ("rise", 10)):
            object.__setattr__(self, name, check_number(name, getattr(self, name), float, least=0, most=most))
        for name in ("N", "every"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), int, least=1))
        object.__setattr__(self, "alpha", check_number("alpha", self.alpha, float, above=0))
        object.__setattr__(self, "interval", check_interval(self.interval))
        check_choice("potential", self.potential, POTENTIALS)
        check_choice("resampling", self.resampling, SCHEMES)

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request by its weight, with shape `(B, 1, *event)`."""
        end = self.run(model, value, streams)
        return end.particles.take(choose(end.log_w, 1.0, streams)[:, None])

    def run(self, model: Diffusion, value: Value, streams: Streams) -> Weighted:
        """Moves the particles to the last step, and returns all of them with their weights."""
        particles, weights = model.start(streams, self.N), Weights.equal(len(streams), self.N)
        looks = self.looks(model.process)
        while not particles.done:
            particles, weights = self.move(particles, weights, value)
            if particles.k in looks:
                weights = self.weigh(particles, weights, self.value(particles, value))
            if particles.k in looks and not particles.done:
                index, low = self.ancestors(weights, streams)
                particles, weights = particles.take(index), weights.resampled(index, low)
        return Weighted(particles, weights.log_w, weights.log_Z)

    def looks(self, process: Process) -> set[int]:
        """The steps at which particles are weighed: those that candidates with noise lead to, and the last."""
        looks = look_ahead_steps(process, self.every, self.interval)
        last = max((k for k in range(process.steps) if process.stochastic(k)), default=0)
        return {k + 1 for k in looks if k < last} | {process.steps}

    def move(self, particles: Particles, weights: Weights, value: Value) -> tuple[Particles, Weights]:
        """Moves one step as the model does."""
        return particles.propose(), weights

    def cap(self, k: int, K: int) -> float:
        """The largest inverse temperature at step k."""
        return float((k / K) ** self.rise / self.alpha)

    def value(self, particles: Particles, value: Value) -> Tensor:
        """The values, with shape `(B, N)`; numbers so large that they stand for infinity replace it and nan."""
        alpha = 1 / self.cap(particles.k, particles.model.steps)
        v = value(particles, alpha).to("cpu", torch.float64)
        return v.nan_to_num(nan=-HUGE).clamp(-HUGE, HUGE)

    def weigh(self, particles: Particles, weights: Weights, v: Tensor) -> Weights:
        """The weights with the potentials of the values; at the last step with the rewards and the temperature."""
        cap = self.cap(particles.k, particles.model.steps)
        if particles.done:
            return weights.weighed(v, cap)
        known = v > -HUGE / 2
        U = torch.where(known, POTENTIALS[self.potential](weights.U, v), weights.U)
        return weights.weighed(U, cap, self.target * self.N)

    def ancestors(self, weights: Weights, streams: Streams) -> tuple[Tensor, Tensor]:
        """The ancestors of all, with shape `(B, N)`, and which requests are resampled, with shape `(B,)`."""
        low = self.low(weights)
        index = SCHEMES[self.resampling](weights.log_w, streams)
        return torch.where(low[:, None], index, torch.arange(self.N, device="cpu")), low

    def low(self, weights: Weights) -> Tensor:
        """The requests whose effective sample size leads to resampling, with shape `(B,)`; none with equal weights.

        Those may have an effective sample size just below N, by rounding; and where no particle has a value, what is
        paid for at a resampling would be so large that later rewards are lost beside it.
        """
        log_w = weights.log_w
        return (ess(log_w) < self.threshold * self.N) & (log_w.amax(1) > log_w.amin(1))
