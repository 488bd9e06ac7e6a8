"""The errors of a value on held-out trajectories."""

__all__ = ["judge"]

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from guided.fitting.value.regression import loss
from guided.fitting.value.states import Data
from guided.values.posterior_mean import soft_mean

BINS = 10


def judge(v: Tensor, data: Data, alpha: float | None, constant: float) -> dict[str, Any]:
    """The errors of values `v` of the states, with shape `(S,)`, with respect to the rewards at the end, JSON-able.

    Args:
        v: The values.
        data: The states.
        alpha: The temperature of a soft value; None for the mean.
        constant: The best constant value.

    Returns:
        `states`, their number; the `loss` in units of the constant's loss; the `rmse` in units of the reward; the
        `correlation` with the reward, None if either is constant; the `bias`, the number to add to the values to make
        them right on average (for a soft value in the soft mean); and all these in `bins` of time, 1 (noise) first.
    """
    t = data.times[data.k]
    edges = [1 - i / BINS for i in range(BINS + 1)]
    bins = []
    for upper, lower in pairwise(edges):
        inside = (t > lower + 1e-6) & (t <= upper + 1e-6)
        if inside.any():
            numbers = _numbers(v[inside], data.r[inside], alpha, constant)
            bins.append({"time": [round(upper, 3), round(lower, 3)], **numbers})
    return {**_numbers(v, data.r, alpha, constant), "bins": bins}


def _numbers(v: Tensor, r: Tensor, alpha: float | None, constant: float) -> dict[str, Any]:
    n = len(r)
    least = loss(torch.full_like(r, constant), r, alpha, n=n).mean().item() or 1.0
    bias = (r - v).mean() if alpha is None else soft_mean((r - v)[None], alpha)
    varies = n > 1 and v.std() > 0 and r.std() > 0
    return {
        "states": n,
        "loss": loss(v, r, alpha, n=n).mean().item() / least,
        "rmse": (r - v).square().mean().sqrt().item(),
        "correlation": torch.corrcoef(torch.stack([v, r]))[0, 1].item() if varies else None,
        "bias": bias.item(),
    }
