r"""Particle Gibbs, for the law :math:`p(x_K) \exp(r(x_K) / \alpha) / Z`, exact for any number of particles from 2.

A sweep is sequential Monte Carlo in which one particle is held on the path of the sweep before: at each step its state
is that path's, with the value that it had then, and resampling leaves its slot to it. A path is drawn by the weights
at the end, and followed back to the start. The law of the paths is left as it is by a sweep, so the error that SMC has
for few particles goes away with the number of sweeps, geometrically. The first sweep holds nothing.

Cost: that of SMC for each sweep, `N K` network rows a request and `N` reward calls a look-ahead. The path is kept in
memory, `K` states for each particle.

References:
    | Particle Markov chain Monte Carlo methods (Andrieu, Doucet and Holenstein, 2010)
    | https://doi.org/10.1111/j.1467-9868.2009.00736.x
"""

__all__ = ["ParticleGibbs", "Path"]

from dataclasses import dataclass, field

import torch
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.outputs import gather
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.core.resampling import choose, conditional_multinomial, multinomial
from guided.errors import GuidedError, check_number
from guided.samplers.base import register_sampler
from guided.samplers.finished import paying
from guided.samplers.smc import SMC
from guided.samplers.weights import Weights
from guided.values.protocol import Value


@dataclass(frozen=True)
class Path:
    """The states of particles at the steps of a sweep, and their values at those that are weighed.

    Attributes:
        x: By step, with shape `(B, N, *event)`.
        v: By step, with shape `(B, N)`.
        index: The ancestors among them of the particles after each step, with shape `(B, N)`.
    """

    x: dict[int, Tensor] = field(default_factory=dict)
    v: dict[int, Tensor] = field(default_factory=dict)
    index: dict[int, Tensor] = field(default_factory=dict)

    def back(self, n: Tensor) -> "Path":
        """The one path that leads to particle `n`, with shape `(B, 1)`, at the last step."""
        one = Path()
        for k in sorted(self.x, reverse=True):
            n = gather(self.index[k], n) if k in self.index else n
            one.x[k] = gather(self.x[k], n)
            if k in self.v:
                one.v[k] = gather(self.v[k], n)
        return one

    def select(self, requests: list[int]) -> "Path":
        """Those of some requests, by their positions."""
        return Path(*({k: x[requests] for k, x in part.items()} for part in (self.x, self.v, self.index)))


@register_sampler("particle-gibbs")
@dataclass(frozen=True)
class ParticleGibbs(SMC):
    """Draws one sample by sweeps of SMC, each with one of the N particles held on the path before.

    Args:
        rounds: The number of sweeps. The other fields are those of SMC.

    Raises:
        GuidedError: A number is out of range, N is below 2, or the resampling is not multinomial.
    """

    resampling: str = "multinomial"
    rounds: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "N", check_number("N", self.N, int, least=2))
        object.__setattr__(self, "rounds", check_number("rounds", self.rounds, int, least=1))
        if self.resampling != "multinomial":
            raise GuidedError(f"resampling is {self.resampling!r}; with a particle that is held it must be multinomial")

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        requests, K = list(range(len(streams))), model.steps
        path = self.sweep(model, value, streams)
        x = path.x[K]
        for _ in range(self.rounds - 1):
            going = paying(model, requests, self.N * (K - model.requests.first_step(K)))
            requests, path = [requests[i] for i in going], path.select(going)
            if not requests:
                break
            path = self.sweep(model.select(requests), value, streams.take(requests), path)
            x = x.index_copy(0, torch.tensor(requests, device=x.device), path.x[K])
        return Particles(model, x, K, streams)

    def sweep(self, model: Diffusion, value: Value, streams: Streams, held: Path | None = None) -> Path:
        """Moves the particles to the last step, the first along a path, and draws a path by the weights."""
        particles, weights = model.start(streams, self.N), Weights.equal(len(streams), self.N)
        if held is not None:
            particles = Particles(model, _put(particles.x, held.x[particles.k]), particles.k, streams)
        looks, paths = self.looks(model.process), Path({particles.k: particles.x})
        while not particles.done:
            moved = particles.propose()
            particles = moved if held is None else particles.follow(_put(moved.x, held.x[moved.k]))
            paths.x[particles.k] = particles.x
            if particles.k in looks:
                v = self.value(particles, value)
                v = paths.v[particles.k] = v if held is None else _put(v, held.v[particles.k])
                weights = self.weigh(particles, weights, v)
            if particles.k in looks and not particles.done:
                low = self.low(weights)
                index = (multinomial if held is None else conditional_multinomial)(weights.log_w, streams)
                index = paths.index[particles.k] = torch.where(low[:, None], index, torch.arange(self.N, device="cpu"))
                particles, weights = particles.take(index), weights.resampled(index, low)
        return paths.back(choose(weights.log_w, 1.0, streams)[:, None])


def _put(x: Tensor, first: Tensor) -> Tensor:
    """The rows `(B, N, *)` with others, `(B, 1, *)`, in place of the first."""
    return torch.cat([first, x[:, 1:]], 1)
