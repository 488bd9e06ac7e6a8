r"""The twisted diffusion sampler (TDS): SMC whose steps lean by a gradient, for :math:`p(x) \exp(r(x) / \alpha) / Z`.

The twist of a particle is :math:`\lambda_k r(y(x_k))` of its clean mean, or of the network's probabilities of clean
tokens, with :math:`\lambda_k = 1 / \alpha`. Particles are resampled by it, and drawn with its gradient g:

.. math:: \tilde p(x_{k+1} \mid x_k) = \mathcal{N}(\mu_k + \tau_k^2 \lambda_k g, \ \tau_k^2), \quad
    \text{or tokens from} \ \mathrm{softmax}(\eta + \lambda_k g)

Each step adds :math:`\log p(x_{k+1} \mid x_k) - \log \tilde p(x_{k+1} \mid x_k)` to the log-weight; for each revealed
token v that is :math:`-\lambda_k g_v + \mathrm{lse}(\eta + \lambda_k g) - \mathrm{lse}(\eta)`, with the normalisers of
both laws.

Law: that of SMC, exact as N grows with an error of order 1/N, whatever the gradient; Z without bias for any N.

Cost: N K network rows a request; for each step that looks ahead, the first included, N reward calls with a gradient, of
real numbers through the network; and N reward calls at the end. Steps without noise do not look ahead.

References:
    | Practical and Asymptotically Exact Conditional Sampling in Diffusion Models (Wu et al., 2023)
    | https://arxiv.org/abs/2306.17775
"""

__all__ = ["TDS"]

from dataclasses import dataclass
from typing import ClassVar

from guided.core.diffusion import Diffusion
from guided.core.gradient import twisted
from guided.core.outputs import gather
from guided.core.random import Streams
from guided.samplers.base import register_sampler
from guided.samplers.smc import SMC, Weighted
from guided.samplers.weights import HUGE, Weights
from guided.values.protocol import Value, slope


@register_sampler("tds")
@dataclass(frozen=True)
class TDS(SMC):
    r"""Draws one of N weighted particles, whose steps lean by the gradient of the reward.

    Args:
        rise: :math:`\lambda_k = (k / K)^{rise} / \alpha`; 0, as published. The other fields are those of SMC.

    Raises:
        GuidedError: A number is out of range, or a name is unknown.
    """

    rise: float = 0.0

    differentiates: ClassVar[bool] = True

    def run(self, model: Diffusion, value: Value, streams: Streams) -> Weighted:
        """Moves the particles to the last step, and returns all of them with their weights.

        Raises:
            GuidedError: The value has no gradient.
        """
        particles, weights = model.start(streams, self.N), Weights.equal(len(streams), self.N)
        looks = self.looks(model.process)
        looks |= {particles.k} if self.interval[0] == 0 and model.process.stochastic(particles.k) else set()
        while not particles.done:
            if particles.k not in looks:
                particles = particles.propose()
                continue
            v, g = slope(value, particles)
            weights = self.weigh(particles, weights, v.nan_to_num(nan=-HUGE).clamp(-HUGE, HUGE))
            index, low = self.ancestors(weights, streams)
            particles, weights = particles.take(index), weights.resampled(index, low)
            particles, correction = twisted(particles, self.cap(particles.k, model.steps) * gather(g, index))
            weights = weights.corrected(correction)
        weights = self.weigh(particles, weights, self.value(particles, value))
        return Weighted(particles, weights.log_w, weights.log_Z)
