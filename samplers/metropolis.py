r"""A Metropolis step on finished samples: some are drawn again from a step on, and one may take the place of what is.

It leaves :math:`p(x) \exp(r(x) / \alpha)` as it is where going back and down again is reversible for p.
"""

__all__ = ["KINDS", "Redraw", "State", "multiple_try", "rewards"]

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import repeat
from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.outputs import gather
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.core.resampling import choose
from guided.errors import GuidedError
from guided.samplers.weights import HUGE
from guided.values.protocol import Value

KINDS = ("renoise", "suffix")
Path = Mapping[int, Tensor]


@dataclass(frozen=True)
class State:
    """A sample of each request.

    Attributes:
        path: The states that are kept of it, by step, with shape `(B, 1, *event)`: the last, and for a suffix all.
        r: Its reward, with shape `(B,)`.
        best: The best sample so far, with shape `(B, 1, *event)`.
        top: The reward of that, with shape `(B,)`.
    """

    path: Path
    r: Tensor
    best: Tensor
    top: Tensor

    def select(self, requests: list[int]) -> "State":
        """The samples of some of the requests."""
        path = {k: x[requests] for k, x in self.path.items()}
        return State(path, self.r[requests], self.best[requests], self.top[requests])

    def put(self, requests: list[int], other: "State") -> "State":
        """The samples, with those of some of the requests replaced."""

        def put(x: Tensor, new: Tensor) -> Tensor:
            return x.index_copy(0, torch.tensor(requests, device=x.device), new)

        path = {k: put(x, other.path[k]) for k, x in self.path.items()}
        return State(path, put(self.r, other.r), put(self.best, other.best), put(self.top, other.top))


@dataclass(frozen=True)
class Redraw:
    """How samples are drawn again from a step on.

    Args:
        kind: "renoise", from the noised sample, or "suffix", from the sample's own path.
        span: The number of neighbouring tokens that are masked, all of them; 0 for the process's own noise.
        region: The positions that may change, from the first to before the last; () for all.
    """

    kind: str
    span: int = 0
    region: tuple[int, ...] = ()

    def window(self, model: Diffusion, streams: Streams) -> Tensor | None:
        """The positions that may change this time, with shape `(B, 1, L)`; None for all.

        Raises:
            GuidedError: The model is not a masked one, or the positions are not there.
        """
        if not self.span and not self.region:
            return None
        if model.process.tokens is None:
            raise GuidedError(f"{model.name} is a continuous model; only masked models have spans and regions")
        if model.process.output[0] != model.process.event[0]:
            raise GuidedError(f"{model.name} draws its tokens in blocks, from the first; leave out span and region")
        L, (start, end) = model.process.event[0], self.region or (0, model.process.event[0])
        if end > L or self.span > end - start:
            name, given = ("region", self.region) if end > L else ("span", self.span)
            there = f"{end - start} of the region" if end <= L and self.region else f"{L} of a sample"
            raise GuidedError(f"{name} is {given}; it must lie within the positions, {there}")
        place = torch.arange(L, device=streams.device)
        if self.span:
            starts = start + (streams.uniform(1, 1) * (end - start - self.span + 1)).long()
            return (place >= starts) & (place < starts + self.span)
        return ((place >= start) & (place < end)).expand(len(streams), 1, L)

    def __call__(
        self, model: Diffusion, path: Path, k: int, N: int, window: Tensor | None, streams: Streams
    ) -> tuple[Particles, dict[int, Tensor]]:
        """Draws N samples for each request again from step k on.

        Returns:
            The samples, with shape `(B, N, *event)`, and their states after step k.
        """
        particles = self._back(model, path, k, N, window, streams)
        after = {}
        while not particles.done:
            particles = particles.propose()
            if self.kind == "suffix":
                after[particles.k] = particles.x
        return particles, after or {particles.k: particles.x}

    def _back(self, model: Diffusion, path: Path, k: int, N: int, window: Tensor | None, streams: Streams) -> Particles:
        if self.kind == "suffix":
            return Particles(model, repeat(path[k], "B 1 ... -> B N ...", N=N), k, streams)
        x = repeat(path[model.steps], "B 1 ... -> B N ...", N=N)
        noised = model.restart(x, k, streams)
        if window is None or model.process.tokens is None:
            return noised
        masked = torch.full_like(x, model.process.tokens - 1) if self.span else noised.x
        return Particles(model, torch.where(window & ~_pinned(x, model), masked, x), k, streams)


def _pinned(x: Tensor, model: Diffusion) -> Tensor:
    """Which tokens of rows `(B, N, L)` are pinned."""
    fixed = model.process.fixed
    if fixed is None or model.process.tokens is None:
        return torch.zeros_like(x, dtype=torch.bool)
    fixed = fixed.to(x.device)
    return (fixed if fixed.ndim == 1 else fixed[:, None]) != model.process.tokens - 1


def rewards(value: Value, particles: Particles, alpha: float) -> Tensor:
    """The rewards of finished samples, with shape `(B, N)`, for which numbers stand where there is none."""
    r = value(particles, alpha).to("cpu", torch.float64)
    return r.nan_to_num(nan=-HUGE).clamp(-HUGE, HUGE)


def multiple_try(
    redraw: Redraw, model: Diffusion, state: State, k: int, N: int, alpha: float, value: Value, streams: Streams
) -> tuple[State, Tensor]:
    """One step of N tries from step k on.

    Returns:
        The state after it, and which requests took another sample, with shape `(B,)`.
    """
    window = redraw.window(model, streams)
    tries, after = redraw(model, state.path, k, N, window, streams)
    r = rewards(value, tries, alpha)
    j = choose(r, alpha, streams)[:, None]
    chosen = {step: gather(x, j) for step, x in after.items()}
    against, seen, scores = state.r[:, None], tries.x, r
    if N > 1:
        points, _ = redraw(model, {**state.path, **chosen}, k, N - 1, window, streams)
        theirs = rewards(value, points, alpha)
        against, scores = (torch.cat([some, theirs], 1) for some in (against, r))
        seen = torch.cat([seen, points.x], 1)
    odds = (r / alpha).logsumexp(1) - (against / alpha).logsumexp(1)
    accepted = streams.uniform(1)[:, 0].cpu().double().log() < odds
    best = scores.argmax(1, keepdim=True)
    return _moved(state, chosen, gather(r, j)[:, 0], accepted, gather(seen, best), scores.amax(1)), accepted


def _moved(state: State, chosen: Path, r: Tensor, accepted: Tensor, best: Tensor, top: Tensor) -> State:
    """The state after a step: the chosen samples where they were accepted, and the best of all."""

    def where(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
        return torch.where(which.to(old.device).view(-1, *[1] * (old.ndim - 1)), new, old)

    path = {k: where(accepted, chosen[k], x) if k in chosen else x for k, x in state.path.items()}
    better = top > state.top
    return State(path, where(accepted, r, state.r), where(better, best, state.best), where(better, top, state.top))
