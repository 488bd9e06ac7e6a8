r"""The contrastive objective of a soft value: states of good samples against those of all.

For states :math:`x^{(1)}, \dots, x^{(m)}` of rollouts, of any steps, each with the reward at the end of its rollout,

.. math:: L = \frac{1}{m} \sum_i u_i \Big( \log \tfrac{1}{m} \textstyle\sum_j e^{v(x^{(j)}) / \alpha}
    - v(x^{(i)}) / \alpha \Big), \quad u_i = e^{r_i / \alpha} \big/ \mathbb{E}[e^{r / \alpha}]

It estimates the divergence :math:`\mathrm{KL}(p^* \,\|\, p^v)` but for a constant, where :math:`p^*` is the law of
:math:`(k, x_k)` on the way to :math:`p(x) e^{r / \alpha} / Z`, and :math:`p^v(k, x) \propto p_k(x) e^{v(x) / \alpha}`.
Its gradient lifts v at positives, the states weighted by their rewards, and lowers it at negatives, weighted by v.

It is least where v is :math:`\alpha \log \mathbb{E}[e^{r / \alpha} \mid x_k]` plus one constant, for groups of any size
m from 2: given the states, the mean of :math:`u_i` is proportional to that exponential, at all steps with the same
factor, and L is a cross-entropy. (With weights that are normalised in each group, the minimiser would depend on m.) The
constant is the one that makes the mean of :math:`e^{(r - v) / \alpha}` one.

Differences from what is published: positives are the rollouts' own states instead of noised samples that particles drew
from :math:`p^*`; negatives are the same states, weighted instead of drawn; and all steps are compared with one another,
which leaves one constant instead of one for each.

References:
    | Contrastive Distribution Matching for Amortized Sequential Monte Carlo in Discrete Diffusion (Kim et al., 2026)
    | https://arxiv.org/abs/2605.23346

    | Contrastive Energy Prediction for Exact Energy-Guided Diffusion Sampling in Offline Reinforcement Learning
    | (Lu et al., 2023), for groups of any size
    | https://arxiv.org/abs/2304.12824
"""

__all__ = ["contrast"]

import math

from torch import Tensor


def contrast(v: Tensor, r: Tensor, alpha: float, level: float, scale: float = 1.0) -> Tensor:
    """The loss of each of a group of states, in units of `scale` squared, as that of a regression is.

    Its mean is 0 for values that do not differ.

    Args:
        v: The values of the group, with shape `(m,)`, in units of the reward.
        r: The rewards at the end of their rollouts, with shape `(m,)`.
        alpha: The temperature.
        level: The soft mean of all rewards, which makes the mean of the weights one.
        scale: The spread of the rewards.
    """
    u, share = ((r - level) / alpha).exp(), (v / alpha).log_softmax(0) + math.log(len(v))
    return -((alpha / scale) ** 2) * u * share
