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

from guided.model import Diffusion, Particles
from guided.resampling import choose
from guided.samplers.schedule import Schedule, at, check_schedule
from guided.streams import Streams
from guided.value import Value


@dataclass(frozen=True)
class SVDD:
    r"""Keeps one of M candidates with probability proportional to :math:`\exp(v / \alpha)`, at every step.

    Arguments:
        M: The number of candidates; a number, or a schedule: a tuple that is spread evenly over the steps.
        alpha: The temperature, in units of the reward, at least 0; 0 keeps the best. A number or a schedule.
        every: The look-ahead is on every j-th step, the last step always among them.
        interval: The part of the run, from 0 (noise) to 1 (data), in which there are look-aheads. Other steps are
            the model's own.

    Raises:
        ValueError: A number is out of range.
    """

    M: Schedule[int] = 10
    alpha: Schedule[float] = 0.0
    every: int = 1
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "M", check_schedule("M", self.M, int, least=1))
        object.__setattr__(self, "alpha", check_schedule("alpha", self.alpha, float, least=0))
        check_schedule("every", self.every, int, least=1)
        start, end = self.interval
        if not 0 <= start < end <= 1:
            raise ValueError(f"interval is {self.interval}; it must be two numbers with 0 <= start < end <= 1")
        object.__setattr__(self, "interval", (float(start), float(end)))

    @torch.no_grad()
    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`.

        Raises:
            ValueError: The process is deterministic, so that candidates would be equal.
        """
        K = model.steps
        if not any(model.process.stochastic(k) for k in range(K)) and any(at(self.M, k, K) > 1 for k in range(K)):
            raise ValueError(f"M is {self.M} and eta = 0: a deterministic step makes M equal candidates; take eta > 0")
        return self.run(model.start(streams), value)

    def run(self, particles: Particles, value: Value) -> Particles:
        """Moves particles, with shape `(B, N, *event)`, to the end; each has candidates of its own."""
        K = particles.model.steps
        while not particles.done:
            k, alpha = particles.k, at(self.alpha, particles.k, K)
            M = at(self.M, k, K) if self.looks(k, K) and particles.model.process.stochastic(k) else 1
            candidates = particles.propose(M)
            particles = candidates.take(self.choose(candidates, value, alpha, M)) if M > 1 else candidates
        return particles

    def choose(self, candidates: Particles, value: Value, alpha: float, M: int) -> Tensor:
        """The chosen one of each particle's M candidates, `(B, N * M, *event)` to an index `(B, N)`."""
        v = rearrange(value(candidates, alpha), "B (N M) -> B N M", M=M)
        m = choose(v, alpha, candidates.streams)
        return m + M * torch.arange(v.shape[1], device=m.device)

    def looks(self, k: int, K: int) -> bool:
        """Whether the step from `k` to `k + 1` has a look-ahead."""
        start, end = self.interval
        return (K - 1 - k) % self.every == 0 and start <= k / K < end
