r"""Choice and resampling in log-space.

Log-weights have shape `(B, N)`: `N` particles in each of `B` requests, and requests do not affect each other. They are
on the CPU, in double precision. A weight that is nan counts as zero; where all weights of a request are zero,
they are made equal.

A resampling scheme is a function of the log-weights and the random streams, and draws the ancestors, with shape
`(B, N)`, such that particle n has :math:`N w_n` copies in expectation. All draw equally many numbers for each request,
whatever its weights, so that a request draws the same alone and among others.

References:
    | An Introduction to Sequential Monte Carlo (Chopin and Papaspiliopoulos, 2020), chapter 9

    | Negative association, ordering and convergence of resampling methods (Gerber, Chopin and Whiteley, 2019)
    | https://arxiv.org/abs/1707.01845
"""

__all__ = [
    "SCHEMES",
    "Scheme",
    "choose",
    "conditional_multinomial",
    "ess",
    "multinomial",
    "normalize",
    "residual",
    "ssp",
    "stratified",
    "systematic",
    "tilt",
]

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from guided.core.random import Streams

Scheme: TypeAlias = Callable[[Tensor, Streams], Tensor]


def tilt(value: Tensor, alpha: float) -> Tensor:
    r"""The log-weights :math:`(v - \max v) / \alpha`, at most 0; at `alpha = 0` the best have 0, all others -inf.

    Args:
        value: The values, with shape `(*, N)`; infinities and nan are allowed.
        alpha: The temperature, at least 0.
    """
    value = value.to("cpu", torch.float64).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    best = value.amax(-1, keepdim=True)
    below = (value - best) / alpha if alpha > 0 else torch.full_like(value, -torch.inf)
    return torch.where(value == best, 0.0, below)


def choose(value: Tensor, alpha: float, streams: Streams) -> Tensor:
    r"""Draws one of `N` with probability proportional to :math:`\exp(v / \alpha)`, by the Gumbel-max trick.

    At `alpha = 0` it is the best one, and a uniform choice among equals: the limit of the distribution above.

    Args:
        value: The values, with shape `(B, *, N)`.
        alpha: The temperature, in units of the value, at least 0.
        streams: The random streams of the requests.

    Returns:
        The index of the choice, with shape `(B, *)`.
    """
    log_w = tilt(value, alpha)
    return (log_w + streams.gumbel(*log_w.shape[1:])).argmax(-1)


def normalize(log_w: Tensor) -> Tensor:
    """The weights, with shape `(B, N)`, that sum to one in each request."""
    return tilt(log_w, 1.0).softmax(-1)


def ess(log_w: Tensor) -> Tensor:
    r"""The effective sample size :math:`1 / \sum_n w_n^2`, in [1, N], with shape `(B,)`."""
    return 1 / normalize(log_w).square().sum(1)


def multinomial(log_w: Tensor, streams: Streams) -> Tensor:
    """Draws ancestors, with shape `(B, N)`, independently; `N` uniform numbers each."""
    return _invert(normalize(log_w), _uniform(streams, log_w.shape[1]))


def stratified(log_w: Tensor, streams: Streams) -> Tensor:
    """Draws ancestors, with shape `(B, N)`, by a number in each N-th of the unit interval; `N` uniform numbers each."""
    N = log_w.shape[1]
    return _invert(normalize(log_w), (torch.arange(N, device="cpu") + _uniform(streams, N)) / N)


def systematic(log_w: Tensor, streams: Streams) -> Tensor:
    """Draws ancestors, with shape `(B, N)`: particle n has floor or ceil of `N w_n` copies.

    Args:
        log_w: The log-weights, with shape `(B, N)`.
        streams: The random streams of the requests; one uniform number each.
    """
    N = log_w.shape[1]
    return _invert(normalize(log_w), (torch.arange(N, device="cpu") + _uniform(streams, 1)) / N)


def residual(log_w: Tensor, streams: Streams) -> Tensor:
    """Draws ancestors, with shape `(B, N)`: floor of `N w_n` copies each, the rest by their remainders, independently;
    `N` uniform numbers each.
    """
    N = log_w.shape[1]
    copies, remainder = _copies(log_w)
    rest = _invert(remainder, _uniform(streams, N))
    return torch.where(torch.arange(N, device="cpu") < copies.sum(1, keepdim=True), _listed(copies), rest)


def ssp(log_w: Tensor, streams: Streams) -> Tensor:
    """Draws ancestors, with shape `(B, N)`, by the Srinivasan sampling process: floor or ceil of `N w_n` copies, which
    are negatively associated; `N - 1` uniform numbers each.

    The remainders of `N w_n` are settled two at a time: one of a pair becomes 0 or 1, by a fair draw, and the other
    meets the next particle.
    """
    N = log_w.shape[1]
    copies, remainder = _copies(log_w)
    u, held = _uniform(streams, N - 1), torch.zeros(len(log_w), dtype=torch.long, device="cpu")
    a = remainder[:, 0]  # of the particle that is held
    for n in range(1, N):
        b = remainder[:, n]
        over = a + b >= 1
        # of a pair below 1 in sum one takes all; of one above, one takes 1 and the other what is left
        first = torch.where(over, (1 - b) / (2 - a - b), a / (a + b).clamp(min=1e-300))
        win = u[:, n - 1] < first
        other = torch.full_like(held, n)
        winner, loser = torch.where(win, held, other), torch.where(win, other, held)
        copies = copies.scatter_add(1, winner[:, None], over.long()[:, None])
        held = torch.where(over, loser, winner)
        a = torch.where(over, a + b - 1, a + b)
    missing = N - copies.sum(1, keepdim=True)  # the last remainder is 0 or 1, up to rounding
    return _listed(copies.scatter_add(1, held[:, None], missing))


def conditional_multinomial(log_w: Tensor, streams: Streams) -> Tensor:
    """Draws ancestors, with shape `(B, N)`, of which the first is held at particle 0; the others are independent.

    Given that a multinomial resampling draws particle 0 for slot 0, this is the law of the other slots.
    """
    index = multinomial(log_w, streams)
    index[:, 0] = 0
    return index


SCHEMES: dict[str, Scheme] = {
    "ssp": ssp,
    "systematic": systematic,
    "residual": residual,
    "stratified": stratified,
    "multinomial": multinomial,
}


def _uniform(streams: Streams, n: int) -> Tensor:
    """Uniform numbers, with shape `(B, n)`, in double precision on the CPU."""
    return streams.uniform(n).cpu().double()


def _invert(w: Tensor, u: Tensor) -> Tensor:
    """The particles, `(B, n)`, whose share of `(B, N)` weights numbers in [0, 1) fall into; none of weight zero."""
    edges = w.cumsum(1)
    return torch.searchsorted(edges / edges[:, -1:], u.contiguous(), right=True).clamp(max=w.shape[1] - 1)


def _copies(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """The floor of `N w_n`, and what remains of it, both with shape `(B, N)`."""
    expected = log_w.shape[1] * normalize(log_w)
    near = expected.round()
    expected = torch.where((expected - near).abs() < 1e-9, near, expected)  # a whole number, up to rounding
    return expected.floor().long(), expected.frac()


def _listed(copies: Tensor) -> Tensor:
    """Ancestors, with shape `(B, N)`, in order, by their numbers of copies; beyond those, the last particle."""
    slots = torch.arange(copies.shape[1], device="cpu").expand(copies.shape).contiguous()
    return torch.searchsorted(copies.cumsum(1), slots, right=True).clamp(max=copies.shape[1] - 1)
