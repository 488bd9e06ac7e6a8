r"""The masked (absorbing-state) process.

A token is masked at step `k` with probability :math:`m_k`, from :math:`m_0 = 1` to :math:`m_K = 0`. A step reveals a
masked token with probability :math:`(m_k - m_{k+1}) / m_k`, drawn from the network's distribution of the clean token,
and leaves a revealed one as it is (SUBS). The network cannot predict the mask.

References:
    | Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024)
    | https://arxiv.org/abs/2406.07524
"""

__all__ = ["SCHEDULES", "Masked", "temperature_of"]

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from guided.core.batching import any_of, distinct
from guided.core.process import check_steps
from guided.core.random import Streams
from guided.errors import GuidedError, check_number

#: The share of masked tokens at time t, from t = 1 (noise) to t = 0 (data). The cosine is MaskGIT's, sin(pi t / 2).
SCHEDULES: dict[str, Callable[[float], float]] = {
    "log-linear": lambda t: t,
    "cosine": lambda t: math.cos(math.pi / 2 * (1 - t)) if t > 0 else 0.0,
}


#: The numbers of the network's output that are turned into double precision at a time.
CHUNK = 2**24

FEW = 8  # tokens that are compared one by one


@dataclass(frozen=True)
class Masked:
    """Absorbing-state steps; the network predicts log-probabilities of clean tokens, with shape `(n, L, V)`.

    Args:
        length: The number of positions `L`.
        vocabulary: The number of tokens `V`; token `V` is the mask.
        steps: The number of steps `K`.
        schedule: The masking schedule, "log-linear" or "cosine".
        temperature: The temperature of the tokens' distribution; 1 is the model's own.
        fixed: Tokens that are pinned, with shape `(L,)`, or `(B, L)` for each request, and the mask where positions are
            free; they stay through prior, proposals and look-ahead.
        start: The time of step 0; below 1 for the rest of a chain.

    Raises:
        GuidedError: A number is out of range, the schedule is unknown, or the pinned tokens do not fit.
    """

    length: int
    vocabulary: int
    steps: int = 64
    schedule: str = "log-linear"
    temperature: float = 1.0
    fixed: Tensor | None = None
    start: float = 1.0

    predicts = "log-probabilities of the tokens without the mask"

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if min(self.length, self.vocabulary) < 1:
            raise GuidedError(f"length is {self.length} and vocabulary {self.vocabulary}; both must be at least 1")
        if self.schedule not in SCHEDULES:
            raise GuidedError(f"the schedule is {self.schedule!r}; it is one of {', '.join(SCHEDULES)}")
        if not 0 < self.temperature < math.inf:
            raise GuidedError(f"the temperature is {self.temperature}; it must be above 0, and finite")
        if self.fixed is not None:
            self._check_fixed(self.fixed)

    def _check_fixed(self, fixed: Tensor) -> None:
        if fixed.ndim not in (1, 2) or fixed.shape[-1] != self.length or fixed.is_floating_point():
            raise GuidedError(
                f"the pinned tokens have shape {tuple(fixed.shape)} and type {fixed.dtype}; "
                f"they must be whole numbers, (L,) or (B, L) with L = {self.length}"
            )
        if fixed.numel() and not (fixed.min() >= 0 and fixed.max() <= self.vocabulary):
            raise GuidedError(f"pinned tokens must be in 0..{self.vocabulary}, where {self.vocabulary} leaves one free")

    @property
    def event(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def tokens(self) -> int:
        return self.vocabulary + 1

    @property
    def output(self) -> tuple[int, ...]:
        return (self.length, self.vocabulary)

    @property
    def distribution(self) -> dict[str, Any]:
        return {"schedule": self.schedule, "temperature": self.temperature}

    @property
    def mask(self) -> int:
        return self.vocabulary

    def time(self, k: int) -> float:
        return self.start * (1 - k / self.steps)

    def stochastic(self, k: int) -> bool:
        return True

    def rate(self, k: int) -> float:
        """The share `m_k` of masked tokens at step `k`."""
        return SCHEDULES[self.schedule](self.time(k))

    def prior(self, N: int, streams: Streams) -> Tensor:
        x = torch.full((len(streams), N, self.length), self.mask, device=streams.device)
        return self._pin(x)

    def propose(self, x: Tensor, y: Tensor, k: int, M: int, streams: Streams) -> Tensor:
        u = streams.uniform(x.shape[1], M, self.length)
        reveal = streams.uniform(x.shape[1] * M, self.length).view_as(u) < 1 - self.rate(k + 1) / self.rate(k)
        x = self._reveal(x, y, u, reveal)
        if k + 1 == self.steps and x.device.type != "cpu":  # checked once on a GPU: to look makes the host wait
            self._check(x == self.mask)
        return x

    def twisted(self, x: Tensor, y: Tensor, k: int, g: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        """Draws `x_{k+1}` with tokens by the model's log-probabilities plus `g`, with shape `(B, N, L, V)`.

        Which tokens are revealed is left as it is.

        Returns:
            The states, and the sum over revealed tokens of the log-ratio of the model's probability to the one that
            they were drawn with, both normalised over the vocabulary; with shape `(B, N)`.
        """
        y = y.to(_wide(y))
        by = self.temperature * g.to(y)
        new = self.propose(x, y + by, k, 1, streams)
        token = new.clamp(max=self.vocabulary - 1)[..., None]
        model, drawn = (((z / self.temperature).log_softmax(-1).gather(-1, token)[..., 0]) for z in (y, y + by))
        return new, torch.where(new != x, model - drawn, 0.0).sum(-1)

    def relaxed(self, x: Tensor, y: Tensor) -> Tensor:
        """The probabilities of clean tokens, rows `(n, L)` to `(n, L, V)`: those of a revealed token are 1 and 0."""
        shown = one_hot(x.clamp(max=self.vocabulary - 1), self.vocabulary).to(y)
        return torch.where((x == self.mask)[..., None], (y / self.temperature).softmax(-1), shown)

    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x == self.mask, _best(y), x)

    def draw(self, x: Tensor, y: Tensor, draws: int, streams: Streams) -> Tensor:
        u = streams.uniform(x.shape[1], draws, self.length)
        return self._reveal(x, y, u, torch.ones_like(u, dtype=torch.bool))

    def noise(self, x: Tensor, k: int, streams: Streams) -> Tensor:
        masked = streams.uniform(*x.shape[1:]) < self.rate(k)
        return self._pin(torch.where(masked, self.mask, x))

    def remask(self, x: Tensor, where: Tensor) -> Tensor:
        return self._pin(torch.where(where, self.mask, x))

    def distinct(self, x: Tensor, group: Tensor | None = None, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return distinct(x, group, among)

    def changed(self, x: Tensor, parents: Tensor) -> Tensor:
        return any_of(x != parents)

    def with_steps(self, K: int) -> "Masked":
        return replace(self, steps=K)

    def strided(self, k: int, steps: int, drawn: bool = True) -> "Masked":
        return replace(self, start=self.time(k), steps=steps)

    def pinned(self, fixed: Tensor) -> "Masked":
        """The same process with pinned tokens, `(L,)` or `(B, L)`."""
        return replace(self, fixed=fixed)

    def select(self, requests: list[int]) -> "Masked":
        if self.fixed is None or self.fixed.ndim == 1:
            return self
        if max(requests) >= len(self.fixed):
            raise GuidedError(
                f"there are pinned tokens for {len(self.fixed)} requests, none for request {max(requests)}"
            )
        return replace(self, fixed=self.fixed[requests])

    def _reveal(self, x: Tensor, y: Tensor, u: Tensor, reveal: Tensor) -> Tensor:
        """Draws the masked tokens that are revealed, by uniform numbers: `(B, N, L)` to `(B, N * M, L)`.

        Args:
            x: The particles.
            y: Their outputs, with shape `(B, N, L, V)`.
            u: A number for each token of each candidate, with shape `(B, N, M, L)`.
            reveal: Which tokens are revealed, where they are masked, with the same shape.
        """
        masked = x == self.mask
        reveal = reveal & masked[:, :, None]
        if y.device.type == "cpu" and self.vocabulary <= FEW:
            return self._reveal_few(x, y, u, reveal)
        token = torch.zeros_like(u, dtype=torch.long).transpose(2, 3).contiguous()  # (B, N, L, M)
        if y.device.type == "cpu" or y.numel() > CHUNK:  # on a GPU, choosing positions makes the host wait
            where = reveal.any(2).nonzero()
            for part in where.split(max(1, CHUNK // self.vocabulary)):
                b, n, i = part.unbind(1)
                token[b, n, i] = self._tokens(y[b, n, i], u[b, n, :, i])
        else:
            token = self._tokens(y, u.transpose(2, 3))
        return torch.where(reveal, token.transpose(2, 3), x[:, :, None]).flatten(1, 2)

    def _reveal_few(self, x: Tensor, y: Tensor, u: Tensor, reveal: Tensor) -> Tensor:
        """The same where there are few kinds of tokens: edges are made again for each candidate, which is less than to
        look up numbers that are not needed.
        """
        M, L = u.shape[2:]
        new = x[:, :, None].expand(-1, -1, M, -1).clone(memory_format=torch.contiguous_format).flatten()  # x stays
        where = reveal.flatten().nonzero()[:, 0]
        token = where.div(M * L, rounding_mode="floor") * L + where % L
        new[where] = self._tokens(y.flatten(0, 2)[token], u.flatten()[where, None])[:, 0]
        return new.view(len(x), -1, L)

    def _tokens(self, y: Tensor, u: Tensor) -> Tensor:
        """Tokens by inverting the distribution function at uniform numbers: `(*, V)` and `(*, M)` to `(*, M)`."""
        y = y.to(_wide(y))  # a sum over V in float32 need not increase everywhere
        edges = ((y - y.amax(-1, keepdim=True)) / self.temperature).softmax(-1).cumsum(-1)
        total = edges[..., -1:]
        if y.device.type == "cpu":
            self._check(total.isnan())
        u = u * total
        u = torch.minimum(u, total.nextafter(torch.zeros_like(total)))  # else a rounded-up u names an impossible token
        return torch.searchsorted(edges, u.contiguous(), right=True).masked_fill(total.isnan(), self.mask)

    def _check(self, failed: Tensor) -> None:
        if failed.any():
            raise GuidedError("the network returned nan, or ruled every token out")

    def _pin(self, x: Tensor) -> Tensor:
        if self.fixed is None:
            return x
        fixed = self.fixed.to(x.device)
        fixed = fixed if fixed.ndim == 1 else fixed[:, None]
        return torch.where(fixed == self.mask, x, fixed)


def temperature_of(given: Any, own: float) -> float:
    """The temperature that is given for the tokens' distribution, or for None the model's own.

    Raises:
        GuidedError: It is not a number above 0.
    """
    return own if given is None else check_number("temperature", given, float, above=0)


def _wide(y: Tensor) -> torch.dtype:
    """The widest type of the device's real numbers."""
    return torch.float64 if y.device.type != "mps" else torch.float32


def _best(y: Tensor) -> Tensor:
    """The first token of the largest log-probability, `(*, V)` to `(*)`; of a few, argmax takes far longer."""
    if y.shape[-1] > FEW:
        return y.argmax(dim=-1)
    planes = y.movedim(-1, 0).contiguous()
    best, token = planes[0], torch.zeros_like(planes[0], dtype=torch.uint8)
    for v in range(1, len(planes)):
        token = torch.maximum(token, v * (planes[v] > best).to(torch.uint8))
        best = torch.maximum(best, planes[v])
    return token.long()
