r"""Choice and resampling in log-space.

Log-weights have shape `(B, N)`: `N` particles in each of `B` requests, and requests do not affect each other. They are
on the CPU, in double precision. A weight that is nan counts as zero; where all weights of a request are zero,
they are made equal.

References:
    | An Introduction to Sequential Monte Carlo (Chopin and Papaspiliopoulos, 2020), chapter 9
"""

__all__ = ["choose", "ess", "normalize", "systematic", "tilt"]

import torch
from torch import Tensor

from guided.core.random import Streams


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


def systematic(log_w: Tensor, streams: Streams) -> Tensor:
    """Draws ancestors, with shape `(B, N)`: particle n has floor or ceil of `N w_n` copies.

    Args:
        log_w: The log-weights, with shape `(B, N)`.
        streams: The random streams of the requests; one uniform number each.
    """
    N = log_w.shape[1]
    positions = (torch.arange(N, device="cpu") + streams.uniform(1).cpu().double()) / N
    edges = normalize(log_w).cumsum(1)
    return torch.searchsorted(edges / edges[:, -1:], positions, right=True)  # the last edge is 1, positions below
