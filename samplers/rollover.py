r"""SVDD whose candidates are drawn until one is better, with what is saved carried on (rollover budget forcing).

A step has `M` candidates to draw, and those that earlier steps left. It draws them a few at a time until one has a
higher value than the present particle, keeps the best that it drew, and leaves the rest to the next step. The last step
that looks ahead draws all that is left, so that exactly `M` candidates a step are drawn on average.

References:
    | Inference-Time Scaling for Flow Models via Stochastic Generation and Rollover Budget Forcing (Kim et al., 2025)
    | https://arxiv.org/abs/2503.19385
"""

__all__ = ["Rollover"]

from dataclasses import dataclass

import torch

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import check_number
from guided.samplers.base import register_sampler
from guided.samplers.finished import tilt_best
from guided.samplers.schedule import check_interval, look_ahead_steps
from guided.values.protocol import Value


@register_sampler("rollover")
@dataclass(frozen=True)
class Rollover:
    """Keeps the best of candidates that are drawn until one beats the present value; saved ones are carried on.

    With noise in every step it takes 1 + M K network rows at most, and M K reward calls, exactly for a continuous
    model; masked models fewer.

    Args:
        M: The number of candidates of a step, on average.
        chunk: How many are drawn at a time.
        every: Every j-th step looks ahead, counted back from the last one that has noise.
        interval: The part of the run, from 0 (noise) to 1 (data), in which steps look ahead.

    Raises:
        GuidedError: A number is out of range.
    """

    M: int = 10
    chunk: int = 1
    every: int = 1
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("M", "chunk", "every"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), int, least=1))
        object.__setattr__(self, "interval", check_interval(self.interval))

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        looks, B = look_ahead_steps(model.process, self.every, self.interval), len(streams)
        particles, quota = model.start(streams), [0] * B
        present = torch.full((B,), -torch.inf, dtype=torch.float64, device="cpu")
        while not particles.done:
            if particles.k in looks:
                quota = [left + self.M for left in quota]
                particles, present = self.step(particles, value, quota, present, last=particles.k == max(looks))
            else:
                particles = particles.propose()
        return particles

    def step(
        self, particles: Particles, value: Value, quota: list[int], present: torch.Tensor, last: bool
    ) -> tuple[Particles, torch.Tensor]:
        """One step; the quotas are lowered by what is drawn. Returns the particles and their values, `(B,)`."""
        B = len(quota)
        best, kept = torch.full((B,), -torch.inf, dtype=torch.float64, device="cpu"), [-1] * B
        drawn: list[tuple[dict[int, int], Particles]] = []
        _ = particles.outputs  # once for all chunks
        while active := [b for b in range(B) if quota[b] and (last or kept[b] < 0 or not best[b] > present[b])]:
            n = min(self.chunk, quota[active[0]])
            active = [b for b in active if min(self.chunk, quota[b]) == n]
            candidates = particles.select(active).propose(n)
            v, at = tilt_best(value(candidates, 0.0))
            for row, b in enumerate(active):
                quota[b] -= n
                if kept[b] < 0 or v[row] > best[b]:
                    best[b], kept[b] = v[row], len(drawn)
            drawn.append(({b: row for row, b in enumerate(active)}, candidates.take(at[:, None])))
        parts = []
        for i in sorted({*kept}):
            own = [b for b in range(B) if kept[b] == i]
            parts.append((own, drawn[i][1].select([drawn[i][0][b] for b in own])))
        return particles.merge(parts), best
