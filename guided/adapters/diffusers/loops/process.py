r"""The process of a loop: the grid of the pipeline's scheduler, and where the loop begins.

Consistency models have a step of their own: :math:`x_s = \alpha_s y + \sigma_s z`, all of its noise fresh.

References:
    | Latent Consistency Models (Luo et al., 2023)
    | https://arxiv.org/abs/2310.04378
"""

__all__ = ["Begun", "Known", "Renoised", "begun", "process_of"]

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from einops import repeat
from torch import Tensor

from guided.adapters.diffusers.levels import Levels, grid_of
from guided.adapters.diffusers.loops.call import Call
from guided.adapters.diffusers.loops.probe import Found, Plan, planned
from guided.adapters.diffusers.loops.scheduler import rounding
from guided.core.editing import Editing
from guided.core.gaussian import Gaussian, Grid
from guided.core.process import Process
from guided.core.random import Streams
from guided.errors import GuidedError

#: The schedulers whose steps noise the clean mean anew.
CONSISTENCY = ("LCMScheduler",)


@dataclass(frozen=True)
class Renoised(Gaussian):
    """Steps of which all noise is fresh."""

    def std(self, k: int) -> float:
        return self.sigmas[k + 1]


@dataclass(frozen=True)
class Begun(Editing):
    """Where a loop begins that starts from clean latents, or keeps a part of them.

    Args:
        x: The rows, with shape `(1, *event)`.
        free: The share of a new latent at each entry, with shape `(1, *event)`; None for 1.
        whole: Whether the rows are whole, or 0 where nothing is kept of them.
        first: Maps a number of steps to the first one that is taken.
    """

    whole: bool = True
    first: Callable[[int], int] = lambda K: 0

    def __post_init__(self) -> None:
        if self.free is not None and not self.free.any():
            raise GuidedError("the mask keeps everything: there is nothing to draw")

    def begin(self, K: int) -> int:
        return self.first(K)

    def start(self, process: Process, N: int, streams: Streams) -> tuple[Tensor, int]:
        k, x = self.begin(process.steps), self.x.expand(len(streams), *self.x.shape[1:])
        known = process.noise(repeat(x, "B ... -> B N ...", N=N), k, streams)
        if self.whole or self.free is None:
            return known, k
        return torch.lerp(known, process.prior(N, streams), self.free[:, None]), k

    def clamp(self, y: Tensor, request: Tensor) -> Tensor:
        return y if self.free is None else torch.lerp(self.x, y, self.free)

    def select(self, requests: list[int]) -> "Begun":
        return self


def process_of(call: Call, levels: Levels, event: tuple[int, ...], eta: float, K: int) -> Gaussian:
    """The process of a loop.

    Args:
        call: How the pipeline is called.
        levels: Those of its scheduler.
        event: The shape of a row of latents.
        eta: The share of fresh noise.
        K: The number of steps.
    """
    scheduler = call.pipeline.scheduler
    name = type(scheduler).__name__
    if scheduler.config.get("thresholding", False):
        raise GuidedError(f"{name} with dynamic thresholding is not supported; turn it off")
    consistent = name in CONSISTENCY

    @cache
    def of(K: int) -> Grid:
        return _grid(planned(call, K), levels, consistent)

    clip = scheduler.config.get("clip_sample_range", 1.0) if scheduler.config.get("clip_sample", False) else None
    trained = None if levels.ratios is None else levels.trained
    kind = Renoised if consistent else Gaussian
    return kind(event, *of(K), eta=eta, grid=of, clip=None if consistent else clip, trained=trained)


@dataclass(frozen=True)
class Known:
    """The levels of a grid, at its times; those of the network's time elsewhere.

    A pipeline may tell its network other times than those of its levels, as CogView does.

    Args:
        levels: Those of the network's time.
        grid: Alphas, sigmas and times.
    """

    levels: Levels
    grid: Grid

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alphas, sigmas, times = (torch.tensor(column, dtype=torch.float32, device=t.device) for column in self.grid)
        apart, index = (t.float()[:, None] - times[None, :-1]).abs().min(1)
        alpha, sigma = self.levels(t)
        known = apart <= rounding(max(self.grid[2]))
        return torch.where(known, alphas[index], alpha), torch.where(known, sigmas[index], sigma)


def _grid(plan: Plan, levels: Levels, consistent: bool) -> Grid:
    own = list(dict.fromkeys(plan.scheduler.timesteps.tolist()))
    K = len(own)
    alphas, sigmas, times = grid_of(plan.scheduler, levels, K)
    if levels.ratios is None and max(abs(a - b) for a, b in zip(own, times, strict=False)) > rounding(max(own)):
        times = [*own, times[-1]]
    return ([*alphas[:-1], 1.0], [*sigmas[:-1], 0.0], times) if consistent else (alphas, sigmas, times)


def begun(found: Found, process: Gaussian) -> Begun | None:
    """Where a loop begins; None for noise."""
    if found.start is None and found.free is None:
        return None
    call, K, times = found.call, process.steps, process.times

    @cache
    def first(steps: int) -> int:
        plan = planned(call, steps)
        known = times if steps == K else process.with_steps(steps).times
        return min(range(steps), key=lambda k: abs(known[k] - float(plan.times[0])))

    if found.start is not None:
        return Begun(found.start, free=found.free, first=first)
    assert found.free is not None and found.kept is not None
    x = torch.where(found.free < 1, found.kept / (1 - found.free).clamp(min=1e-6), 0.0)
    return Begun(x, free=found.free, whole=False, first=first)
