r"""A learned value: a network that was fitted on the pretrained model's trajectories (SVDD-MC).

It uses :math:`x_k` and the time only and needs no denoiser, so SVDD costs one network row for each request and step.
At the last step the value is the reward itself.

References:
    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024)
    | https://arxiv.org/abs/2408.08252
"""

__all__ = ["TARGETS", "LearnedValue", "describe", "relative"]


import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from guided.core.batching import Evaluator, Rows
from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.process import Process
from guided.errors import GuidedError
from guided.scoring.identity import as_recorded
from guided.settings import torch_defaults
from guided.storage import plain
from guided.values.posterior_mean import PosteriorMean
from guided.values.protocol import Reward

#: The targets of a value, by name.
TARGETS = {
    "mean": "E[r | x_k]",
    "soft": "alpha log E[exp(r / alpha) | x_k], from the rewards at the end of trajectories",
    "bootstrap": "the same, backed up from step to step: v(x_k) = alpha log E[exp(v(x_{k+1}) / alpha) | x_k]",
}
_GRID = {"start", "steps", "alphas", "sigmas", "times"}  # what depends on the number of steps only


@dataclass(frozen=True)
class LearnedValue:
    """The value of a state by a network: :math:`v = shift + scale * net(x, t, prompt)`.

    Args:
        net: Maps rows `(n, *event)`, times `(n,)` from 1 (noise) to 0 (data) and numbers of prompts `(n,)` to `(n,)`.
        config: The configuration of the fit, JSON-able: `model`, `reward`, `target`, `alpha`, `times`, `shift`,
            `scale`, …
        reward: The reward, for the last step.
        identity: A digest of the weights.
        any_reward: Whether it may be used with another reward than it was fitted for.
        evaluator: The micro-batches of its rows.
    """

    net: nn.Module
    config: Mapping[str, Any]
    reward: Reward | None = None
    identity: str = ""
    any_reward: bool = False
    evaluator: Evaluator = field(default_factory=lambda: Evaluator(4096))

    @property
    def prompts(self) -> list[str]:
        """The prompts that it was fitted for; none for an unconditional model."""
        return list(self.config["model"]["prompts"])

    @torch.no_grad()
    def __call__(self, particles: Particles, alpha: float) -> Tensor:
        """The values, with shape `(B, N)`, in double precision on the CPU.

        Raises:
            GuidedError: The value is a soft one, and `alpha` is neither its temperature nor 0.
        """
        if particles.done:
            if self.reward is None:
                raise GuidedError("at the last step the value is the reward: give it one, by its method bind")
            return PosteriorMean(self.reward)(particles, alpha)
        self.check_alpha(alpha)
        monitor = particles.requests.monitor
        monitor.seconds.setdefault("value", 0.0)
        with monitor.time("value"):
            x, prompt = particles.x.flatten(0, 1), self._prompt(particles).flatten()
            process = particles.model.process
            first, inverse = process.distinct(x, prompt)
            v = self.predict(x[first], process.time(particles.k), prompt[first])
            return v[inverse.cpu()].view(particles.x.shape[:2])

    def slope(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """The values of real numbers and their gradients, `(B, N)` and `(B, N, *event)`, before the last step.

        Raises:
            GuidedError: As `check_slope`.
        """
        self.check_slope(cast("Diffusion", particles.model))
        rows, prompt = particles.x.flatten(0, 1), self._prompt(particles).flatten()
        time, scale = relative(particles.model.process.time(particles.k), self.config["times"]), self.config["scale"]

        @torch_defaults()
        def fn(part: Rows) -> Tensor:
            with torch.enable_grad():
                x = rows[part].detach().requires_grad_()
                t = torch.full((len(x),), time, dtype=torch.float32, device=x.device)
                v = self.net(x, t, prompt[part])
                (g,) = torch.autograd.grad(v.sum(), x, materialize_grads=True)
            return torch.cat([v[:, None].detach(), g.flatten(1)], 1)

        found = scale * self.evaluator(fn, len(rows))
        v = self.config["shift"] + found[:, 0].cpu().double()
        return v.view(particles.x.shape[:2]), found[:, 1:].reshape(particles.x.shape)

    def check_slope(self, model: Diffusion) -> None:
        """Raises GuidedError if particles are tokens: the network takes them as whole numbers."""
        if model.process.tokens is not None:
            raise GuidedError("a learned value of tokens has no gradient; leave it out, for the gradient of the reward")

    @torch_defaults()
    def predict(self, x: Tensor, time: float, prompt: Tensor) -> Tensor:
        """The values of rows, with shape `(n,)`, at one time of the process, in double precision on the CPU."""
        t = torch.full((len(x),), relative(time, self.config["times"]), dtype=torch.float32, device=x.device)
        y = self.evaluator(lambda part: self.net(x[part], t[part], prompt[part]), len(x))
        return self.config["shift"] + self.config["scale"] * y.cpu().double()

    def bind(self, model: Diffusion, reward: Reward, alphas: Any = ()) -> "LearnedValue":
        """The same value with the reward of this run, after checks.

        Args:
            model: The model of the run, with its prompts and its guidance.
            reward: The reward of the run. If it has an identity, it must be the one that the value was fitted for.
            alphas: The sampler's alpha, a number or a schedule, to be checked early.

        Raises:
            GuidedError: The value was fitted for another model, prompt, guidance, reward or temperature.
        """
        self.check_model(model)
        wanted, given = self.config["reward"], plain(getattr(reward, "identity", None))
        if not self.any_reward and as_recorded(wanted, given) != wanted:
            raise GuidedError(
                f"the value was fitted for the reward {_name(wanted)}, the run has {_name(given)}; fit another value, "
                "or, in Python, load this one with any_reward=True"
            )
        for alpha in alphas if isinstance(alphas, tuple | list) else [alphas]:
            self.check_alpha(alpha)
        return replace(self, reward=reward, net=self.net.to(model.device))

    def check_model(self, model: Diffusion) -> None:
        """Raises GuidedError if the model is another one; only the number of steps may differ."""
        mine, given = self.config["model"], describe(model)
        unknown = [prompt for prompt in given["prompts"] if prompt not in mine["prompts"]]
        if unknown or bool(given["prompts"]) != bool(mine["prompts"]):
            what = f"has the prompt {unknown[0]!r}" if unknown else "has no prompt"
            raise GuidedError(f"the value was fitted {_prompted(mine['prompts'], model)}, the run {what}")
        names = ["event", "process", "identity", "guidance"] + ([] if mine["identity"] else ["name"])
        for name in names:
            if given[name] != mine[name]:
                raise GuidedError(
                    f"the value was fitted for another model ({mine['name']}): {name} was "
                    f"{json.dumps(mine[name])} there and is {json.dumps(given[name])} here"
                )

    def check_alpha(self, alpha: float) -> None:
        """Raises GuidedError if a soft value has another temperature than `alpha`; 0, to keep the best, is accepted."""
        own = self.config["alpha"]
        if own is not None and alpha != 0 and not math.isclose(alpha, own, rel_tol=1e-6):
            raise GuidedError(
                f"the value is a soft one for alpha = {own:g}, the sampler has alpha = {alpha:g}; take {own:g}, or 0 "
                "to keep the best, or fit another value"
            )

    def _prompt(self, particles: Particles) -> Tensor:
        """The number of each particle's prompt, with shape `(B, N)`."""
        given = particles.requests.prompts if len(self.prompts) > 1 else []
        number = torch.tensor([self.prompts.index(prompt) for prompt in given] or [0] * len(particles.x), device="cpu")
        return number[:, None].expand(particles.x.shape[:2]).to(particles.x.device)


def relative(time: float, times: Sequence[float]) -> float:
    """The time on a scale from 1 (noise) to 0 (data), for any process."""
    first, last = times
    return (time - last) / ((first - last) or 1.0)


def describe(model: Diffusion) -> dict[str, Any]:
    """What a value depends on in a model, JSON-able: its weights, its process without the number of steps, its distinct
    prompts and its guidance.
    """
    guidance = model.requests.guidance
    return {
        "name": model.name,
        "identity": model.identity,
        "event": list(model.process.event),
        "process": plain(_describe(model.process)),
        "prompts": list(dict.fromkeys(model.prompts)),
        "guidance": None if guidance is None else guidance.scale,
    }


def _describe(process: Process) -> dict[str, Any]:
    """The type and the plain fields of a process, without its grid."""
    found: dict[str, Any] = {"type": type(process).__name__}
    names: list[str] = [entry.name for entry in fields(process)] if is_dataclass(process) else []
    for name in names:
        value = getattr(process, name)
        if isinstance(value, Tensor):
            value = value.tolist()
        if name not in _GRID and isinstance(value, bool | int | float | str | tuple | list | None):
            found[name] = value
    return found


def _prompted(prompts: Sequence[str], model: Diffusion) -> str:
    """The prompts of a fit, in words."""
    if not prompts or list(prompts) == [model.prompting.unconditional]:
        return "without a prompt"
    return f"for the prompt{'s' if len(prompts) > 1 else ''} {', '.join(map(repr, prompts))}"


def _name(identity: Mapping[str, Any] | None) -> str:
    """A reward's identity as a short text."""
    if identity is None:
        return "a function without an identity"
    terms = ", ".join(_term(term) for term in identity["terms"])
    return terms if len(identity["terms"]) == 1 else f"{identity['aggregate']}({terms})"


def _term(term: Mapping[str, Any]) -> str:
    given = {**term.get("parameters", {}), "weight": term.get("weight", 1)}
    settings = [
        f"{name}={value}" for name, value in given.items() if value is not None and (name, value) != ("weight", 1)
    ]
    if term.get("transform"):  # as it is given: linear=0,1
        settings.append(re.sub(r"\.0(?=,|$)", "", term["transform"]))
    found = term.get("sha256") or term.get("source")
    digest = f" ({found[:8]})" if found else ""
    return repr(term["reward"] + ("?" + "&".join(settings) if settings else "")) + digest
