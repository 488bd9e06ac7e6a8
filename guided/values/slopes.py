"""Rewards of particles with their gradients, for the samplers that follow them."""

__all__ = ["check_reward", "reward_slope"]

import torch
from torch import Tensor

from guided.core.batching import Evaluator
from guided.core.diffusion import Diffusion
from guided.core.gradient import Score, check_gradients, slope
from guided.core.hashing import row_hash
from guided.core.particles import Particles
from guided.core.views import EachPrompt
from guided.errors import GuidedError
from guided.scoring.objective import Objective
from guided.values.protocol import Reward


def check_reward(reward: Reward, model: Diffusion) -> None:
    """Refuses what has no gradient.

    Raises:
        GuidedError: The reward has none, the model's steps cannot follow one, the model has no such view in real
            numbers, or requests have weights of their own.
    """
    if not isinstance(reward, Objective):
        raise GuidedError("the reward is no objective, so it does not say that it has gradients; see resolve_reward")
    if reward.obstacle:
        raise GuidedError(reward.obstacle)
    check_gradients(model)
    for view in sorted(reward.takes):
        if not model.codec.relaxes(view):
            raise GuidedError(f"{model.name} has no {view} with gradients, which reward {reward.name!r} takes")
    if model.requests.weights is not None:
        raise GuidedError("requests have weights of their own, which have no gradient here")


def reward_slope(reward: Objective, particles: Particles, evaluator: Evaluator) -> tuple[Tensor, Tensor]:
    """Rewards and gradients (:func:`guided.core.gradient.slope`); -inf and 0 where a request's budget does not reach.

    Args:
        reward: A reward that has gradients.
        particles: With shape `(B, N, *event)`, before the last step.
        evaluator: The micro-batches of tokens' rows.
    """
    looking = _looking(particles)
    if len(looking) == len(particles.x):
        return _counted(reward, particles, evaluator)
    shape = particles.x.shape[:2]
    v = torch.full(shape, -torch.inf, dtype=torch.float64, device="cpu")
    g = torch.zeros(*shape, *particles.model.process.output, device=particles.x.device)
    if looking:
        part = particles.select(looking)
        v[looking], some = _counted(reward, part, evaluator)
        g[looking] = some.to(g)
        particles.learn(part, looking)
    return v, g


def _counted(reward: Objective, particles: Particles, evaluator: Evaluator) -> tuple[Tensor, Tensor]:
    """Rewards and gradients of all particles, each of which is a call."""
    v, g = slope(particles, _relaxed(reward, particles), evaluator)
    reward.count(v.numel())
    _note(particles, v)
    return v, g


def _looking(particles: Particles) -> list[int]:
    """The requests whose budget lets all their particles be looked at and one be scored at the end."""
    spending, (B, N), model = particles.requests.spending, particles.x.shape[:2], particles.model
    if spending is None:
        return list(range(B))
    return spending.open(rows=(N + model.steps - particles.k - 1) * model.cost, calls=N + 1)


def _relaxed(reward: Objective, particles: Particles) -> Score:
    """The reward of clean rows in real numbers."""
    codec, prompts = particles.model.codec, particles.requests.prompts
    each = EachPrompt.of(prompts, particles.x.device) if prompts else None
    return lambda rows, request: reward.relaxed(rows, codec, None if each is None else each.select(request))


def _note(particles: Particles, v: Tensor) -> None:
    """Counts a call of each particle that was not looked at in this step before, and notes its reward."""
    spending = particles.requests.spending
    if spending is None:
        return
    rows = particles.x.flatten(0, 1).flatten(1)
    numbers = row_hash(rows if particles.model.process.tokens else rows.float().contiguous().view(torch.int32))
    index = torch.arange(len(rows), device="cpu").view(*v.shape, 1)
    _, new = spending.claim(index, [("relaxed", particles.k, n) for n in numbers.tolist()], keep=1)
    spending.note(new, v[..., None].tolist())
