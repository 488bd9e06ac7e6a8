r"""Gradients of a reward at particles, and steps that lean towards them.

Here the network runs with gradients, and nowhere else while a model samples.

- Of real numbers the reward is that of the clean mean, :math:`r(y(x_k))`, and the gradient is with respect to
  :math:`x_k`, through the network.
- Of tokens it is :math:`r(p)`, of the network's probabilities of the clean tokens, `(L, V)`, and the gradient is with
  respect to those: to first order, what a token is worth at its position. No gradient goes through the network.
"""

__all__ = ["Score", "check_gradients", "leaning", "slope", "twisted"]

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from guided.core.batching import Evaluator, Rows
from guided.core.diffusion import Diffusion
from guided.core.gaussian import Gaussian
from guided.core.masked import Masked
from guided.core.outputs import Outputs
from guided.core.particles import Particles
from guided.errors import GuidedError

#: Maps clean rows in real numbers, `(m, *event)` or `(m, L, V)`, and the request of each, `(m,)`, to scores `(m,)`.
Score: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def check_gradients(model: Any) -> None:
    """Refuses a model whose steps cannot lean.

    Raises:
        GuidedError: It is neither a Gaussian nor a masked one, or its steps are a pipeline's own.
    """
    if not model.differentiable:
        raise GuidedError(f"{model.name} by its own loop has no gradients; its class, if it has one, has (loop=false)")
    if not isinstance(model.process, Gaussian | Masked):
        kind = type(model.process).__name__
        raise GuidedError(f"{model.name} has no gradients: its process is {kind}; it must be Gaussian or Masked")


def slope(particles: Particles, score: Score, evaluator: Evaluator) -> tuple[Tensor, Tensor]:
    """The scores of what particles point to, and their gradients, before the last step.

    Args:
        particles: With shape `(B, N, *event)`; the network's outputs stay with them.
        score: The score of clean rows.
        evaluator: The micro-batches of tokens' rows; those of real numbers are the network's.

    Returns:
        The scores, with shape `(B, N)`, in double precision on the CPU; and the gradients, `(B, N, *event)`, of tokens
        `(B, N, L, V)`, with 0 in place of nan and infinity.
    """
    model = cast("Diffusion", particles.model)
    check_gradients(model)
    request = torch.arange(len(particles.x), device=particles.x.device).repeat_interleave(particles.x.shape[1])
    if model.process.tokens is None:
        v, g = _through_network(model, particles, request, score)
    else:
        v, g = _of_tokens(model, particles, request, score, evaluator)
    g = g.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return v.to("cpu", torch.float64).view(particles.x.shape[:2]), g.unflatten(0, particles.x.shape[:2])


def twisted(particles: Particles, g: Tensor) -> tuple[Particles, Tensor]:
    r"""Moves one step by the model's law times :math:`\exp(g \cdot x_{k+1})`; of tokens, those that are revealed.

    Args:
        particles: With shape `(B, N, *event)`.
        g: With that shape, of tokens `(B, N, L, V)`.

    Returns:
        The particles, and the log-ratio of the model's law to the one that they were drawn from, with shape `(B, N)`,
        in double precision on the CPU.
    """
    check_gradients(particles.model)
    process, y = cast("Gaussian | Masked", particles.model.process), particles.outputs.y[particles.outputs.index]
    x, log_ratio = process.twisted(particles.x, y, particles.k, g.to(y.device), particles.streams)
    return _followed(particles, x), log_ratio.to("cpu", torch.float64)


def leaning(particles: Particles, g: Tensor) -> Particles:
    """Moves one step of real numbers as the model does with `g`, `(B, N, *event)`, added to the score.

    Raises:
        GuidedError: They are tokens, which have no score.
    """
    process, outputs = particles.model.process, particles.outputs
    if not isinstance(process, Gaussian):
        raise GuidedError(
            "tokens have no score to add a gradient to; take tds or classifier-guidance for masked models"
        )
    y = process.leaning(outputs.y[outputs.index], particles.k, g)
    return _followed(particles, process.propose(particles.x, y, particles.k, 1, particles.streams))


def _followed(particles: Particles, x: Tensor) -> Particles:
    particles.requests.monitor.step(particles.k + 1)
    return particles.follow(x)


def _through_network(model: Diffusion, particles: Particles, request: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """Scores and gradients of all rows, with shape `(n,)` and `(n, *event)`; the outputs are those of one network row
    each, and stay.
    """
    rows, event = particles.x.flatten(0, 1), model.process.event
    wide = torch.float32 if rows.device.type == "mps" else torch.float64

    def fn(part: Rows) -> Tensor:
        with torch.enable_grad():
            x = rows[part].detach().requires_grad_()
            y = model.ask(x, request[part], particles.k)
            v, g = _differentiated(score(model.process.estimate(x, y), request[part]), x)
        return torch.cat([part.detach().flatten(1).to(wide) for part in (y, g, v[:, None])], 1)

    found = model.counted(fn, request, particles.k)
    size = (found.shape[1] - 1) // 2
    y, g = (part.to(rows.dtype).unflatten(1, event) for part in found[:, :-1].split(size, 1))
    index = torch.arange(len(rows), device=rows.device).view(particles.x.shape[:2])
    particles.know(Outputs(rows, y, index))
    return found[:, -1], g


def _of_tokens(
    model: Diffusion, particles: Particles, request: Tensor, score: Score, evaluator: Evaluator
) -> tuple[Tensor, Tensor]:
    """Scores and gradients of all rows, with shape `(n,)` and `(n, L, V)`."""
    y, process = particles.outputs.y[particles.outputs.index].flatten(0, 1), cast("Masked", model.process)
    p = process.relaxed(particles.x.flatten(0, 1), y)

    def fn(part: Rows) -> Tensor:
        with torch.enable_grad():
            q = p[part].detach().requires_grad_()
            v, g = _differentiated(score(q, request[part]), q)
        return torch.cat([part.detach().flatten(1) for part in (g.to(v), v[:, None])], 1)

    found = evaluator(fn, len(p))
    return found[:, -1], found[:, :-1].unflatten(1, p.shape[1:])


def _differentiated(v: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores `(m,)` of rows, each of which depends on its own row only, and their gradients."""
    if not v.requires_grad:
        raise GuidedError(
            "the reward returned scores without a gradient: it must stay in torch, without detach or item"
        )
    (g,) = torch.autograd.grad(v.sum(), x, materialize_grads=True)
    return v, g
