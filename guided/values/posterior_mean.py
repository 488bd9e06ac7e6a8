r"""Soft values and their estimates.

The value of a particle is :math:`v_k(x_k) = \alpha \log \mathbb{E}[\exp(r(x_K) / \alpha) \mid x_k]`; the law that is
proportional to :math:`p(x_K) \exp(r(x_K) / \alpha)` is sampled exactly by moving with probability proportional to
:math:`p(x_{k+1} \mid x_k) \exp(v_{k+1}(x_{k+1}) / \alpha)`.

References:
    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024)
    | https://arxiv.org/abs/2408.08252
"""

__all__ = ["PosteriorMean", "soft_mean"]

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from guided.core.batching import Evaluator, distinct
from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.resampling import tilt
from guided.errors import GuidedError
from guided.values.protocol import Reward


@dataclass(frozen=True)
class PosteriorMean:
    r"""The reward of the look-ahead, :math:`v_k(x_k) \approx r(\hat{x}_0(x_k))` (SVDD-PM).

    With `draws > 1` it is :math:`\alpha \log \frac{1}{D} \sum_d \exp(r(x^{(d)}) / \alpha)` over clean samples that are
    drawn from the network's one-step law instead of taken at its mode; at `alpha = 0` their maximum.

    Arguments:
        reward: The reward, in units of its own.
        draws: The number of clean draws `D` for each particle; 1 is the mode, or the clean mean.
        evaluator: Micro-batches of decoded samples.

    Raises:
        ValueError: `draws` is below 1.
    """

    reward: Reward
    draws: int = 1
    evaluator: Evaluator = field(default_factory=Evaluator)

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise GuidedError(f"draws is {self.draws}; it must be at least 1")

    def __call__(self, particles: Particles, alpha: float = 0.0) -> Tensor:
        model, (B, N) = particles.model, particles.x.shape[:2]
        prompted = bool(getattr(self.reward, "prompted", False)) and len(model.prompts) > 0
        if model.preview is not None and not particles.done:
            model = replace(model, decode=model.preview)
        if self.draws == 1 or particles.done:
            rows, index = particles.clean
            if not prompted:
                return self.score(rows, model)[index.cpu()]
            each = torch.arange(B).repeat_interleave(N)  # requests may share a row, but not its score
            return self.score(rows[index.flatten()], model, each).view(B, N)
        x = particles.draw(self.draws)
        owner = torch.arange(B).repeat_interleave(N * self.draws) if prompted else None
        return soft_mean(self.score(x.flatten(0, 1), model, owner).view(B, N, self.draws), alpha)

    def score(self, rows: Tensor, model: Diffusion, owner: Tensor | None = None) -> Tensor:
        """The rewards of clean rows, `(n, *event)` to `(n,)`, in double precision; nan counts as worst.

        Arguments:
            rows: The rows.
            model: The model that decodes them.
            owner: The request of each row, with shape `(n,)`, whose prompt the reward is given; None for no prompts.
        """
        inverse = None
        if model.process.discrete:
            first, inverse = distinct(rows, None if owner is None else owner.to(rows.device))
            rows = rows[first]
            owner = None if owner is None else owner[first.cpu()]

        def fn(part: slice) -> Tensor:
            with model.monitor.time("decode"):
                samples = model.decode(rows[part])
            if len(samples) != len(rows[part]):
                raise GuidedError(f"the model's decode made {len(samples)} samples of {len(rows[part])} rows")
            prompts = () if owner is None else ([model.prompts[i] for i in owner[part].tolist()],)
            with model.monitor.time("reward"):
                scores = torch.as_tensor(self.reward(samples, *prompts), dtype=torch.float64, device="cpu")
            if scores.shape != (len(rows[part]),):
                raise GuidedError(
                    f"the reward returned shape {tuple(scores.shape)} for {len(rows[part])} samples; "
                    "it must be one number for each"
                )
            return scores

        scores = self.evaluator(fn, len(rows)).nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        return scores if inverse is None else scores[inverse.cpu()]


def soft_mean(r: Tensor, alpha: float) -> Tensor:
    r""":math:`\alpha \log \mathrm{mean} \exp(r / \alpha)` over the last axis, the maximum at `alpha = 0`."""
    best = r.amax(-1)
    if alpha == 0:
        return best
    mean = tilt(r, alpha).expm1().mean(-1)  # of exp(.) - 1, so that a hot alpha loses no digits
    return torch.where(best.isinf(), best, best + alpha * mean.log1p())
