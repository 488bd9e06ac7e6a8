r"""Soft value-based decoding (SVDD).

At each step, draw :math:`M` candidates from the pretrained model and keep one by its value:

.. math:: x_{k+1}^{(m)} \sim p(\cdot \mid x_k), \quad
    m \sim \mathrm{Cat}\big( \exp(v_{k+1}(x_{k+1}^{(m)}) / \alpha) \big)

References:
    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024)
    | https://arxiv.org/abs/2408.08252
"""

__all__ = ["SVDD"]

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.process import Process
from guided.core.random import Streams
from guided.core.resampling import choose
from guided.errors import GuidedError, check_number
from guided.samplers.base import register_sampler
from guided.samplers.schedule import Schedule, at, check_interval, check_schedule, look_ahead_steps
from guided.values.protocol import Value


@register_sampler("svdd")
@dataclass(frozen=True)
class SVDD:
    r"""Keeps one of M candidates with probability proportional to :math:`\exp(v / \alpha)`, at every step.

    A request whose budget is spent takes the model's own steps to the end: one reward call is kept for what it finds.

    Args:
        M: The number of candidates; a number, or a schedule: a tuple that is spread evenly over the steps.
        alpha: The temperature, in units of the reward, at least 0; 0 keeps the best. A number or a schedule.
        every: Every j-th step looks ahead, counted back from the last one that has noise.
        interval: The part of the run, from 0 (noise) to 1 (data), in which steps look ahead. Other steps are the
            model's own.

    Raises:
        GuidedError: A number is out of range.
    """

    M: Schedule[int] = 10
    alpha: Schedule[float] = 0.0
    every: int = 1
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for name, number, least in (("M", int, 1), ("alpha", float, 0)):
            object.__setattr__(self, name, check_schedule(name, getattr(self, name), number, least))
        object.__setattr__(self, "every", check_number("every", self.every, int, least=1))
        object.__setattr__(self, "interval", check_interval(self.interval))

    @property
    def guides(self) -> bool:
        """Whether the value is asked before the end: there is more than one candidate to choose from."""
        return (max(self.M) if isinstance(self.M, tuple) else self.M) > 1

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`.

        Raises:
            GuidedError: The process is deterministic, or no step looks ahead: M would have no effect.
        """
        particles = model.start(streams)
        self._check_steps(model.process, range(particles.k, model.steps))
        return self.run(particles, value)

    def _check_steps(self, process: Process, steps: range) -> None:
        M = self.candidates(process)
        if max(M[k] for k in steps) > 1 or max(at(self.M, k, process.steps) for k in steps) == 1:
            return
        if not any(process.stochastic(k) for k in steps):
            remedy = getattr(process, "remedy", "take eta > 0, and 2 steps or more")
            raise GuidedError(
                f"M is {self.M} and none of the {len(steps)} steps has noise, as with eta = 0: "
                f"a deterministic step makes equal candidates; {remedy}"
            )
        raise GuidedError(
            f"none of the {len(steps)} steps has a look-ahead: every is {self.every}, interval {self.interval}"
        )

    def run(self, particles: Particles, value: Value) -> Particles:
        """Moves particles, with shape `(B, N, *event)`, to the end; each has its own candidates."""
        M, K = self.candidates(particles.model.process), particles.model.steps
        while not particles.done:
            k, alpha = particles.k, at(self.alpha, particles.k, K)
            candidates = particles.propose(M[k])
            particles = candidates.take(self.choose(candidates, value, alpha, M[k])) if M[k] > 1 else candidates
        return particles

    def candidates(self, process: Process) -> list[int]:
        """The number of candidates at each step: M where there is a look-ahead, 1 where the step is the model's own."""
        K, looks = process.steps, look_ahead_steps(process, self.every, self.interval)
        return [at(self.M, k, K) if k in looks else 1 for k in range(K)]

    def choose(self, candidates: Particles, value: Value, alpha: float, M: int) -> Tensor:
        """The chosen one of each particle's M candidates, `(B, N * M, *event)` to an index `(B, N)`."""
        v = rearrange(value(candidates, alpha), "B (N M) -> B N M", M=M)
        m = choose(v, alpha, candidates.streams)
        return m + M * torch.arange(v.shape[1], device=m.device)
