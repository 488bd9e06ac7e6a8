r"""Losses whose minimiser is the value.

.. math:: \text{mean:}\ \tfrac12 (v - r)^2 \qquad
    \text{soft:}\ \alpha^2 \big( e^{(r - v) / \alpha} - 1 - (r - v) / \alpha \big)

The first is least in expectation at :math:`v = \mathbb{E}[r \mid x_k]`, the second at
:math:`v = \alpha \log \mathbb{E}[\exp(r / \alpha) \mid x_k]`: its derivative in :math:`v` is
:math:`\alpha (1 - \mathbb{E}[e^{(r - v) / \alpha}])`. It is the Itakura-Saito divergence of
:math:`e^{r / \alpha}` from :math:`e^{v / \alpha}`. It does not change when a constant is added to rewards and values,
and it weighs errors on the scale of the value; squared errors of :math:`e^{r / \alpha}` would weigh only the few best
samples. For large :math:`\alpha` both losses are the same.

It is safe for any :math:`r / \alpha`: a fit starts where the average of :math:`e^{(r - v) / \alpha}` is one, so that
none of :math:`n` exponentials is above :math:`n`; and beyond :math:`20 n`, which no average over :math:`n` samples can
reach at the minimum, the loss is continued linearly.

References:
    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024)
    | https://arxiv.org/abs/2408.08252

    | Extreme Q-Learning: MaxEnt RL without Entropy (Garg et al., 2023)
    | https://arxiv.org/abs/2301.02328
"""

__all__ = ["effective", "finite", "loss"]

import math

import torch
from torch import Tensor

from guided.core.resampling import tilt
from guided.errors import GuidedError


def loss(v: Tensor, y: Tensor, alpha: float | None, scale: float = 1.0, n: int = 1) -> Tensor:
    """The loss of each value, in units of `scale` squared.

    Args:
        v: The values, with shape `(m,)`, in units of the reward.
        y: The targets of the regression, with shape `(m,)`.
        alpha: The temperature of the soft value; None for the mean.
        scale: The spread of the rewards.
        n: The number of rewards, which bounds the exponential.
    """
    if alpha is None:
        return 0.5 * ((y - v) / scale).square()
    z = (y - v) / alpha
    cap = math.log(20 * n)
    inside = z.clamp(max=cap)
    line = math.exp(cap) * (z - inside)
    return (alpha / scale) ** 2 * (inside.expm1() - z + line)


def finite(r: Tensor) -> Tensor:
    """The rewards, with -inf (a failed sample) replaced by the lowest finite one.

    Raises:
        GuidedError: None is finite.
    """
    good = r[r.isfinite()]
    if not len(good):
        raise GuidedError(f"none of the {r.numel()} rewards of the rollouts is finite; there is nothing to learn")
    return torch.where(r.isfinite(), r, good.min())


def effective(r: Tensor, alpha: float) -> float:
    r"""The effective number of rewards in a soft mean of `n`, :math:`(\sum_i u_i)^2 / \sum_i u_i^2` with
    :math:`u_i = \exp(r_i / \alpha)`, in [1, n].
    """
    u = tilt(r, alpha).exp()
    return float(u.sum() ** 2 / u.square().sum())
