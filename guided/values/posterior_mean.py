r"""Soft values and their estimates.

The value of a particle is :math:`v_k(x_k) = \alpha \log \mathbb{E}[\exp(r(x_K) / \alpha) \mid x_k]`. Given :math:`x_0`,
the distribution proportional to :math:`p(x_K \mid x_0) \exp(r(x_K) / \alpha)` is sampled exactly by moving with
probability proportional to :math:`p(x_{k+1} \mid x_k) \exp(v_{k+1}(x_{k+1}) / \alpha)`. The start, :math:`x_0`, is
drawn from the prior.

References:
    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024)
    | https://arxiv.org/abs/2408.08252
"""

__all__ = ["PosteriorMean", "soft_mean"]

import math
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from guided.core.batching import Evaluator, Rows
from guided.core.lookahead import LookAhead
from guided.core.particles import Particles
from guided.core.resampling import tilt
from guided.errors import GuidedError
from guided.scoring.objective import Objective
from guided.scoring.rows import takes_rows
from guided.values.protocol import Reward


@dataclass(frozen=True)
class PosteriorMean:
    r"""The reward of the look-ahead, :math:`v_k(x_k) \approx r(\hat{x}_0(x_k))` (SVDD-PM).

    With `draws > 1` it is :math:`\alpha \log \frac{1}{D} \sum_d \exp(r(x^{(d)}) / \alpha)` over clean samples that are
    drawn from the network's one-step distribution instead of taken at its mode; at `alpha = 0` their maximum.

    Args:
        reward: The reward, in its own units.
        draws: The number of clean draws `D` for each particle; 1 is the mode, or the clean mean.
        evaluator: The micro-batches of decoded samples.

    Raises:
        GuidedError: `draws` is below 1.
    """

    reward: Reward
    draws: int = 1
    evaluator: Evaluator = field(default_factory=Evaluator)

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise GuidedError(f"draws is {self.draws}; it must be at least 1")

    def __call__(self, particles: Particles, alpha: float = 0.0) -> Tensor:
        """The values, with shape `(B, N)`, in double precision on the CPU; nan counts as worst.

        Where requests have weights of their own, each particle's reward is by those of its request.

        Raises:
            GuidedError: They have, and the reward is no objective.
        """
        weights = particles.requests.weights
        if weights is not None and not isinstance(self.reward, Objective):
            raise GuidedError("requests have weights of their own, which only an objective takes; see resolve_reward")
        rows = self._takes_rows(particles)
        prompted = bool(getattr(self.reward, "prompted", False)) and len(particles.requests.prompts) > 0
        ahead = particles.look_ahead(self.draws, by_request=prompted, distinct=not rows)
        each = weights is not None
        if rows:
            r = self._of_rows(ahead, each)
        else:
            r = self.evaluator(lambda part: self._score(ahead, part, each), len(ahead))
        r = r[ahead.index.cpu()]
        r = r if weights is None else self._preferred(r, weights)
        return soft_mean(r.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf), alpha)

    def _preferred(self, scores: Tensor, weights: Tensor) -> Tensor:
        """Rewards, `(B, N, draws)`, of scores `(B, N, draws, T)` by weights `(B, T')`."""
        table, w = scores.movedim(-1, 0), weights.T[:, :, None, None]
        return torch.from_numpy(cast("Objective", self.reward).preferred(table.numpy(), w.numpy()))

    def _takes_rows(self, particles: Particles) -> bool:
        """Whether all of the reward is given tensors; it finds equal rows itself then."""
        reward = self.reward
        return isinstance(reward, Objective) and takes_rows(reward.takes, particles.model.codec, not particles.done)

    def _of_rows(self, ahead: LookAhead, each: bool) -> Tensor:
        """The rewards of all rows, with shape `(n,)`, in double precision; the scores of each term, `(n, T)`."""
        reward = cast("Objective", self.reward)
        ahead.views.make(reward.takes)
        with ahead.monitor.time("reward"):
            if each:
                return torch.from_numpy(reward.scores(ahead.views, ahead.prompts, self.evaluator).T)
            return reward(ahead.views, ahead.prompts, self.evaluator)

    def _score(self, ahead: LookAhead, part: Rows, each: bool) -> Tensor:
        """The rewards of a part of the samples, with shape `(m,)`, in double precision; or `(m, T)`, as above."""
        views = ahead.views.select(part)
        samples = given = views["samples"]
        if isinstance(self.reward, Objective):
            views.make(self.reward.takes)
            given = views
        prompts = () if ahead.prompts is None else (ahead.prompts_of(part),)
        with ahead.monitor.time("reward"):
            if each:
                return torch.from_numpy(cast("Objective", self.reward).scores(given, *prompts).T)
            scores = torch.as_tensor(self.reward(given, *prompts), dtype=torch.float64, device="cpu")
        if scores.shape != (len(samples),):
            raise GuidedError(
                f"the reward returned shape {tuple(scores.shape)} for {len(samples)} samples; "
                "it must be one number for each"
            )
        return scores


def soft_mean(r: Tensor, alpha: float) -> Tensor:
    r""":math:`\alpha \log \mathrm{mean} \exp(r / \alpha)` over the last axis, the maximum at `alpha = 0`."""
    best = r.amax(-1)
    if alpha == 0 or r.shape[-1] == 1:
        return best
    mean = tilt(r, alpha).expm1().mean(-1)  # of exp(.) - 1, so that a large alpha loses no digits
    return torch.where(best.isinf(), best, best + alpha * mean.log1p())
