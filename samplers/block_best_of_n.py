r"""Blockwise best of N (CoDe): best-of-N between checkpoints of the chain instead of at its end.

From the present particle, `N` chains take a block of steps; the one whose look-ahead is best goes on:

.. math:: x_{k+b}^{(n)} \sim p(x_{k+b} \mid x_k), \quad n = \arg\max v_{k+b}(x_{k+b}^{(n)})

A block of the whole chain is best-of-N, a block of one step SVDD with alpha = 0.

References:
    | CoDe: Blockwise Control for Denoising Diffusion Models (Singh et al., 2025)
    | https://arxiv.org/abs/2502.00968
"""

__all__ = ["BlockBestOfN"]

from dataclasses import dataclass
from math import ceil

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.core.resampling import choose
from guided.errors import check_number
from guided.samplers.base import register_sampler
from guided.samplers.finished import to_the_end
from guided.samplers.schedule import check_interval
from guided.values.protocol import Value


@register_sampler("block-best-of-n")
@dataclass(frozen=True)
class BlockBestOfN:
    """Keeps the best of N chains after every block of steps.

    It takes 1 + N (K - 1) network rows, and N reward calls a block; masked models fewer. A request whose budget does
    not pay for a block takes the model's own steps to the end.

    Args:
        N: The number of chains.
        block: The number of steps of a block; the last one may be shorter.
        alpha: The temperature, in units of the reward, at least 0; 0 keeps the best.
        interval: The part of the run, from 0 (noise) to 1 (data), in which chains are compared: the first block ends
            where it begins, and what follows it is one block. For models whose early look-aheads say nothing.

    Raises:
        GuidedError: A number is out of range.
    """

    N: int = 10
    block: int = 8
    alpha: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("N", "block"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), int, least=1))
        object.__setattr__(self, "alpha", check_number("alpha", self.alpha, float, least=0))
        object.__setattr__(self, "interval", check_interval(self.interval))

    @property
    def guides(self) -> bool:
        """Whether the value is asked before the end."""
        return self.N > 1

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        particles = start = model.start(streams)
        requests, done = list(range(len(streams))), []
        while not particles.done and requests:
            end = self._end(particles.k, start.k, model.steps)
            going = self._going(particles, end)
            others = [b for b in range(len(requests)) if b not in {*going}]
            if others:
                done.append(([requests[b] for b in others], to_the_end(particles.select(others))))
                requests, particles = [requests[b] for b in going], particles.select(going)
            if requests:
                chains = particles.propose(self.N)
                while chains.k < end:
                    chains = chains.propose()
                particles = chains.take(choose(value(chains, self.alpha), self.alpha, chains.streams)[:, None])
        return start.merge([*done, *([(requests, particles)] if requests else [])])

    def _end(self, k: int, first: int, K: int) -> int:
        """The step at which the block that begins at step `k` of `K` ends."""
        begin = max(first, ceil(self.interval[0] * K))
        if k < begin:
            return begin
        end = k + self.block
        return end if end <= self.interval[1] * K else K

    def _going(self, particles: Particles, end: int) -> list[int]:
        """The requests whose budget pays for a block and for the rest of one chain."""
        spending, left = particles.requests.spending, particles.model.steps - particles.k
        if spending is None:
            return list(range(len(particles.x)))
        block = end - particles.k
        rows = 1 + self.N * (block - 1) + (self.N + left - block - 1 if block < left else 0)
        return spending.open(rows=rows * particles.model.cost, calls=2 if block < left else 1)
