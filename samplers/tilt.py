r"""Tilted logits inside sequential Monte Carlo, for the law :math:`p(x_K) \exp(r(x_K) / \alpha) / Z` of masked models.

At each step that looks ahead, `n` clean sequences are drawn at a particle from the network's output, and scored. Their
rewards say what a token v at a masked position l is worth, the less the fewer of them have it, of :math:`c_v`:

.. math:: g_v = \frac{c_v}{c_v + s} \Big( \frac{1}{c_v} \sum_{i : x^{(i)}_l = v} r^{(i)}
    - \frac{1}{n} \sum_i r^{(i)} \Big)

With the network's log-probabilities :math:`\eta`, revealed tokens are drawn from
:math:`\mathrm{softmax}(\eta + \gamma \lambda_{k+1} g)` instead. Which are revealed is left to the process. Each adds

.. math:: \log \frac{p(v)}{\tilde p(v)} = - \gamma \lambda_{k+1} g_v + \mathrm{lse}(\eta + \gamma \lambda_{k+1} g)
    - \mathrm{lse}(\eta)

to the log-weight, so that the law is that of SMC. The same rewards are the particle's value, their soft mean.

Cost: the network rows of SMC; `N n` reward calls for each step that looks ahead, the first included, and `N` at the
end.

References:
    | GILC (2026): https://arxiv.org/abs/2606.06303
"""

__all__ = ["Tilt"]

from dataclasses import dataclass

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.gradient import twisted
from guided.core.outputs import gather
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import GuidedError, check_number
from guided.samplers.base import register_sampler
from guided.samplers.finished import paying
from guided.samplers.smc import SMC, Weighted
from guided.samplers.weights import HUGE, Weights
from guided.values.posterior_mean import soft_mean
from guided.values.protocol import Value


@register_sampler("tilt")
@dataclass(frozen=True)
class Tilt(SMC):
    r"""Draws one of N weighted particles, which are resampled and whose tokens are drawn by their worth.

    Args:
        draws: The number `n` of clean sequences that are scored at each particle.
        gamma: How much of the tokens' worth their log-probabilities are given; 0 for none, as in SMC.
        shrink: The count `s` at which the worth of a token is halved. The other fields are those of SMC.

    Raises:
        GuidedError: A number is out of range, or a name is unknown.
    """

    N: int = 4
    draws: int = 8
    gamma: float = 1.0
    shrink: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "draws", check_number("draws", self.draws, int, least=1))
        for name in ("gamma", "shrink"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), float, least=0))

    def run(self, model: Diffusion, value: Value, streams: Streams) -> Weighted:
        """Moves the particles to the last step, and returns all of them with their weights.

        Raises:
            GuidedError: The model is not a masked one, or one of blocks.
        """
        if model.process.tokens is None:
            raise GuidedError(f"{model.name} is a continuous model; only masked models have logits to tilt")
        if model.process.output[0] != model.process.event[0]:
            raise GuidedError(f"{model.name} predicts a block of its tokens at a time; only logits of all are tilted")
        particles, weights = model.start(streams, self.N), Weights.equal(len(streams), self.N)
        begin, looks = particles.k, self.looks(model.process)
        looks |= {begin} if self.interval[0] == 0 else set()
        while not particles.done:
            g = None
            if particles.k in looks:
                x, r = self.scored(particles, value)
                if particles.k > begin:
                    v = soft_mean(r, 1 / self.cap(particles.k, model.steps))
                    weights = self.weigh(particles, weights, v)
                    index, low = self.ancestors(weights, streams)
                    particles, weights = particles.take(index), weights.resampled(index, low)
                    x, r = gather(x, index), gather(r, index)
                g = worth(x, r, model.process.output[1], self.shrink)
            particles, weights = self.tilted(particles, weights, g)
        return self._end(particles, weights, value)

    def _end(self, particles: Particles, weights: Weights, value: Value) -> Weighted:
        weights = self.weigh(particles, weights, self.value(particles, value))
        return Weighted(particles, weights.log_w, weights.log_Z)

    def scored(self, particles: Particles, value: Value) -> tuple[Tensor, Tensor]:
        """Clean sequences that are drawn at each particle, `(B, N, n, L)`, and their rewards, `(B, N, n)`."""
        clean = Particles(particles.model, particles.draw(self.draws), particles.model.steps, particles.streams)
        model, left = particles.model, self.N * (particles.model.steps - particles.k)  # and N rewards at the end
        going = paying(model, [*range(len(particles.x))], left, calls=self.N * (self.draws + 1))
        r = torch.full(clean.x.shape[:2], -HUGE, dtype=torch.float64, device="cpu")
        if going:
            r[going] = self.value(clean if len(going) == len(r) else clean.select(going), value)
        return clean.x.unflatten(1, (self.N, -1)), r.unflatten(1, (self.N, -1))

    def tilted(self, particles: Particles, weights: Weights, g: Tensor | None) -> tuple[Particles, Weights]:
        """Moves one step with tokens drawn by their worth, with shape `(B, N, L, V)`, and corrects the weights."""
        if g is None or self.gamma == 0:
            return particles.propose(), weights
        particles, correction = twisted(particles, self.gamma * self.cap(particles.k + 1, particles.model.steps) * g)
        return particles, weights.corrected(correction)


def worth(x: Tensor, r: Tensor, V: int, shrink: float) -> Tensor:
    """What each token is worth at each position, with shape `(B, N, L, V)`, in units of the reward.

    Args:
        x: Clean sequences, with shape `(B, N, n, L)`.
        r: Their rewards, with shape `(B, N, n)`; one without a reward counts as the worst that has one.
        V: The number of tokens.
        shrink: The count at which the worth is halved.
    """
    known = r > -HUGE
    worst = torch.where(known, r, torch.inf).amin(-1, keepdim=True)
    r = torch.where(known, r, torch.where(worst.isinf(), 0.0, worst))
    above = (r - r.mean(-1, keepdim=True))[..., None].expand(x.shape)
    zero = torch.zeros(*x.shape[:2], V, x.shape[3], dtype=torch.float64, device="cpu")
    x = x.cpu()
    total, count = zero.scatter_add(2, x, above), zero.scatter_add(2, x, torch.ones_like(above))
    return (total / (count + shrink).clamp(min=1e-9)).transpose(2, 3)
