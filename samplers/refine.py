r"""Refine: Metropolis steps on finished samples, for the law :math:`p(x) \exp(r(x) / \alpha) / Z`.

From a sample x, N others :math:`x'_j` are drawn by going back to step k and down again. One is chosen by
:math:`\mathrm{softmax}(r(x'_j) / \alpha)`, N - 1 reference points :math:`x''_i` are drawn from it in the same way, and
it takes the place of x with probability

.. math:: \min\Big(1, \frac{\sum_j \exp(r(x'_j) / \alpha)}{\exp(r(x) / \alpha) + \sum_i \exp(r(x''_i) / \alpha)}\Big)

Two ways back, by `kind`:

- "renoise" draws :math:`x_k \sim q(x_k \mid x)`. The law is exact where this and the reverse chain undo one another:
  for a masked model where hardly ever two tokens are revealed in one step, so with many more steps than tokens. Of a
  table over three dependent tokens its total variation is .145 with 2 steps, .020 with 16, .0012 with 256.
  Text in blocks is revealed by confidence, which no noise undoes: there it is a search.
- "suffix" keeps the path of x down to step k and draws the rest again. It is exact for any model. What came before the
  smallest k does not change, so for the whole law some rounds must begin at the start, with level 1.

Cost: `2 N - 1` ways down a round, each of `level K` network rows and one reward call, after the first sample's.

References:
    | The Multiple-Try Method and Local Optimization in Metropolis Sampling (Liu, Liang and Wong, 2000)
    | https://doi.org/10.1080/01621459.2000.10473908

    | https://arxiv.org/abs/2602.09424 (CSMC, 2026), https://arxiv.org/abs/2511.05562 (IterRef, 2025),
    | https://arxiv.org/abs/2502.14944 (RERD, 2025)
"""

__all__ = ["Refine"]

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from einops import repeat
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import GuidedError, check_flag, check_number
from guided.samplers.base import Sampler, register_sampler, resolve_sampler, sampler_to_dict
from guided.samplers.finished import paying
from guided.samplers.metropolis import KINDS, Redraw, State, multiple_try, rewards
from guided.samplers.schedule import Schedule, at, check_choice, check_schedule
from guided.values.protocol import Value

HALF, ACCEPTANCE, RATE = 0.5, 0.3, 0.5  # the level at first, the share that it is adapted to, and how fast


@register_sampler("refine")
@dataclass(frozen=True)
class Refine:
    """Improves a sample round by round, each time by going back some steps and down again.

    Args:
        rounds: The number of rounds.
        N: The number of tries in a round; with 1 there are no reference points.
        alpha: The temperature, in units of the reward, above 0.
        kind: "renoise" or "suffix".
        level: The share of the steps that are taken again, in (0, 1]: a number, or a schedule over the rounds; 0 to
            adapt it in the first half of the rounds for an acceptance of .2 to .4.
        start: The sampler of the first sample, a name or a dictionary; for a suffix it is "unguided".
        sample: The first sample itself, such as SMILES or a sequence, for models that encode samples.
        span: The number of neighbouring tokens that a round masks, at a random place; 0 for the process's own noise.
            For masked models.
        region: The positions that may change, from the first to before the last; () for all. For masked models.
        best: Whether the best sample that was scored is returned, which is a search, instead of the last.

    Raises:
        GuidedError: A number is out of range, a name is unknown, or the options do not go together.
    """

    rounds: int = 8
    N: int = 1
    alpha: float = 0.1
    kind: str = "renoise"
    level: Schedule[float] = 0.0
    start: Any = "unguided"
    sample: str = ""
    span: int = 0
    region: tuple[int, ...] = ()
    best: bool = False

    guides: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("N", 1), ("span", 0)):
            object.__setattr__(self, name, check_number(name, getattr(self, name), int, least=least))
        object.__setattr__(self, "alpha", check_number("alpha", self.alpha, float, above=0))
        object.__setattr__(self, "level", _checked_level(self.level))
        object.__setattr__(self, "region", _checked_region(self.region))
        check_choice("kind", self.kind, KINDS)
        check_flag("best", self.best)
        object.__setattr__(self, "start", sampler_to_dict(resolve_sampler(self.start)))
        if self.kind == "suffix" and (self.start != {"name": "unguided"} or self.sample or self.span or self.region):
            raise GuidedError(
                "kind is 'suffix', which needs the whole path of its sample: leave out start, sample, span and region, "
                "or take kind 'renoise'"
            )

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        K, redraw = model.steps, Redraw(self.kind, self.span, self.region)
        state = self.first(model, value, streams)
        level = torch.full((len(streams),), HALF, dtype=torch.float64, device="cpu")
        for i in range(self.rounds):
            if self.level != 0:
                level = torch.full_like(level, at(self.level, i, self.rounds))
            k = (K - (level * K).ceil().long()).clamp(model.requests.first_step(K), K - 1)
            accepted = torch.zeros(len(streams), dtype=torch.bool, device="cpu")
            for step in k.unique().tolist():  # requests with one level go together
                some = (k == step).nonzero()[:, 0].tolist()
                some = [some[i] for i in paying(model, some, (2 * self.N - 1) * (K - step))]
                if not some:
                    continue
                part, own = model.select(some), streams.take(some)
                moved = multiple_try(redraw, part, state.select(some), step, self.N, self.alpha, value, own)
                state, accepted[some] = state.put(some, moved[0]), moved[1]
            if self.level == 0 and i < self.rounds // 2:
                level = (level * (RATE * (accepted.double() - ACCEPTANCE)).exp()).clamp(max=1)
        return Particles(model, state.best if self.best else state.path[K], K, streams)

    def first(self, model: Diffusion, value: Value, streams: Streams) -> State:
        """The samples to begin with."""
        path: dict[int, Tensor] = {}
        if self.sample:
            x = repeat(model.encode(self.sample).to(model.device), "... -> B 1 ...", B=len(streams))
            particles = Particles(model, x, model.steps, streams)
        elif self.kind == "suffix":
            particles = model.start(streams)
            path[particles.k] = particles.x
            while not particles.done:
                particles = particles.propose()
                path[particles.k] = particles.x
        else:
            start: Sampler = resolve_sampler(self.start)
            particles = start(model, value, streams)
        r = rewards(value, particles, self.alpha)[:, 0]
        return State({**path, model.steps: particles.x}, r, particles.x, r)


def _checked_level(level: Any) -> Schedule[float]:
    level = check_schedule("level", level, float, 0)
    levels = level if isinstance(level, tuple) else (level,)
    if max(levels) > 1 or (level != 0 and min(levels) == 0):
        raise GuidedError(f"level is {level}; it must be in (0, 1], or 0 to be adapted")
    return level


def _checked_region(region: Any) -> tuple[int, ...]:
    if not isinstance(region, list | tuple) or len(region) not in (0, 2):
        raise GuidedError(f"region is {region!r}; it must be two positions, or () for all")
    bounds = tuple(check_number("region", bound, int, least=0) for bound in region)
    if bounds and bounds[0] >= bounds[1]:
        raise GuidedError(f"region is {bounds}; it must be two positions, the first below the last")
    return bounds
