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
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor

from guided.core.batching import Evaluator, Rows
from guided.core.diffusion import Diffusion
from guided.core.lookahead import LookAhead
from guided.core.particles import Particles
from guided.core.resampling import tilt
from guided.errors import GuidedError
from guided.scoring.objective import Objective
from guided.scoring.rows import takes_rows
from guided.values.protocol import Reward
from guided.values.slopes import check_reward, reward_slope


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

        Where requests have weights of their own, each particle's reward is by those of its request. Particles that a
        request's budget does not reach have the value -inf: they are not known.

        Raises:
            GuidedError: They have, and the reward is no objective.
        """
        if particles.requests.weights is not None and not isinstance(self.reward, Objective):
            raise GuidedError("requests have weights of their own, which only an objective takes; see resolve_reward")
        return self._within(particles, partial(self._values, alpha=alpha))

    def scored(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """The rewards of finished particles, with shape `(B, N)`, and the scores that they are made of, `(B, N, T')`.

        Scores are those of the terms that are no constraints, less what the constraints take off.

        Raises:
            GuidedError: There are fewer than two such terms.
        """
        objective = self.reward
        if not isinstance(objective, Objective) or len(objective.objectives) < 2:
            raise GuidedError(
                "rank is 'front', which needs several rewards that are no constraints; this run has fewer"
            )
        table = self._within(particles, self._columns, 1 + len(objective.objectives))
        return table[..., 0], table[..., 1:]

    def _columns(self, particles: Particles) -> Tensor:
        """The rewards of finished particles beside their scores, with shape `(B, N, 1 + T')`."""
        r, scores = self._rewards(particles, each=True)
        assert scores is not None
        objective = cast("Objective", self.reward)
        limits = [i for i, term in enumerate(objective.terms) if term not in objective.objectives]
        aims = [i for i in range(len(objective.terms)) if i not in limits]
        scores = scores[..., aims] + scores[..., limits].sum(-1, keepdim=True)
        return torch.cat([r[..., None], scores], -1)[:, :, 0]

    def _within(self, particles: Particles, values: Callable[[Particles], Tensor], *each: int) -> Tensor:
        """Values, with shape `(B, N, *each)`, of the requests whose budget lets them look; -inf of the others."""
        spending = particles.requests.spending
        if spending is None or not spending.budget:
            return values(particles)
        looking = particles.looking(self.rows)
        if len(looking) == len(particles.x):
            return values(particles)
        v = torch.full((*particles.x.shape[:2], *each), -torch.inf, dtype=torch.float64, device="cpu")
        if looking:
            part = particles.select(looking)
            v[looking] = values(part)
            particles.learn(part, looking)
        return v

    def slope(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """The rewards of the clean means, or of the tokens' probabilities, and their gradients, before the last step:
        see :func:`guided.values.protocol.slope`. Each particle is a call of the reward.

        Raises:
            GuidedError: As `check_slope`.
        """
        self.check_slope(cast("Diffusion", particles.model))
        return reward_slope(cast("Objective", self.reward), particles, self.evaluator)

    def check_slope(self, model: Diffusion) -> None:
        """Refuses what has no gradient (:func:`guided.values.slopes.check_reward`)."""
        check_reward(self.reward, model)
        if self.draws != 1:
            raise GuidedError(f"draws is {self.draws}; a sampler that follows gradients has one look-ahead, so it is 1")

    @property
    def rows(self) -> int:
        """The network rows of a look-ahead."""
        return 1

    def _values(self, particles: Particles, alpha: float) -> Tensor:
        """The values of particles whose requests may look ahead, with shape `(B, N)`."""
        return soft_mean(self._rewards(particles, each=particles.requests.weights is not None)[0], alpha)

    def _rewards(self, particles: Particles, each: bool) -> tuple[Tensor, Tensor | None]:
        """The rewards of particles' draws, with shape `(B, N, D)`; with `each` also their scores, `(B, N, D, T)`."""
        rows, weights, spending = self._takes_rows(particles), particles.requests.weights, particles.requests.spending
        prompted = bool(getattr(self.reward, "prompted", False)) and len(particles.requests.prompts) > 0
        ahead = particles.look_ahead(self.draws, by_request=prompted, distinct=not rows)
        index = ahead.index.cpu()
        if spending is None:
            table = self._scores(ahead, rows, each)[index]
            return self._preferred(table, weights, each), table if each else None
        paid, new = spending.claim(index, ahead.views.keys(rows), keep=0 if particles.done else 1)
        which = None if paid.all() else index[paid].unique()
        table = self._scores(ahead, rows, each, which)[index]
        r = self._preferred(table, weights, each)
        spending.note(new, r.tolist())
        return r.where(paid[..., None], -torch.inf), table if each else None

    def _scores(self, ahead: LookAhead, rows: bool, each: bool, which: Tensor | None = None) -> Tensor:
        """The rewards of look-aheads, with shape `(u,)`, or of each term, `(u, T)`; those not asked for are -inf."""
        if which is None:
            return (
                self._of_rows(ahead, each)
                if rows
                else self.evaluator(lambda part: self._score(ahead, part, each), len(ahead))
            )
        terms = (len(cast("Objective", self.reward).terms),) if each else ()
        r = torch.full((len(ahead), *terms), -torch.inf, dtype=torch.float64, device="cpu")
        if len(which):
            r[which] = self._scores(ahead.select(which.to(ahead.rows.device)), rows, each)
        return r

    def _preferred(self, r: Tensor, weights: Tensor | None, each: bool) -> Tensor:
        """Rewards, `(B, N, D)`: as they are, or of scores `(B, N, D, T)` by weights `(B, T')`, if there are any."""
        if each:
            objective = cast("Objective", self.reward)
            alike = torch.ones(1, len(objective.objectives), dtype=torch.float64, device="cpu")
            table, w = r.movedim(-1, 0), (alike if weights is None else weights).T[:, :, None, None]
            r = torch.from_numpy(objective.preferred(table.numpy(), w.numpy()))
        return r.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)

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
