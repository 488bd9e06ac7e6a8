"""A pretrained diffusion model."""

__all__ = ["Diffusion"]

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from guided.core.batching import Evaluator, Rows
from guided.core.codec import Codec
from guided.core.denoiser import Denoiser, Network
from guided.core.guidance import Conditions, Guidance, Guided, Guider
from guided.core.monitor import Monitor
from guided.core.outputs import Outputs, check_output, evaluate
from guided.core.particles import Particles
from guided.core.process import Process
from guided.core.prompting import Prompting
from guided.core.random import Streams
from guided.core.requests import Requests
from guided.core.views import Views
from guided.errors import GuidedError
from guided.settings import torch_defaults

HELD = 2**32  # bytes of the network's outputs; the number of rows that are evaluated depends on it


@dataclass(frozen=True)
class Diffusion:
    """A frozen denoiser, its process, and the requests of one run: at first one request without conditions.

    Args:
        denoiser: The only part that runs the network.
        process: The reverse chain.
        codec: How clean rows become samples, and samples rows.
        prompting: What it can be conditioned on, and its guidance.
        network: The network inside the denoiser, so that other weights can be put into it; None if it is not known.
        timed: Whether the network's output depends on the time. If it does not, a candidate equal to its parent keeps
            its parent's output.
        name: What the model was loaded as.
        identity: A digest of the weights, and of anything else that samples depend on. With it, torch's global settings
            have no effect on the network.
        evaluator: Where and in what micro-batches network rows run.
        requests: What belongs to one run; set by :meth:`prompted`, :meth:`edited` and :meth:`with_requests`.
    """

    denoiser: Denoiser
    process: Process
    codec: Codec = field(default_factory=Codec)
    prompting: Prompting = field(default_factory=Prompting)
    network: Network | None = None
    timed: bool = True
    name: str = "model"
    identity: str = ""
    evaluator: Evaluator = field(default_factory=Evaluator)
    requests: Requests = field(default_factory=Requests)

    @property
    def steps(self) -> int:
        """The number of steps `K`."""
        return self.process.steps

    @property
    def device(self) -> torch.device:
        """Where particles live."""
        return self.evaluator.device

    @property
    def room(self) -> int:
        """The number of rows whose outputs are held at a time, the same on all machines."""
        return max(1, HELD // (4 * math.prod(self.process.output)))

    @property
    def cost(self) -> int:
        """The number of rows of the network that one particle takes: 2 with guidance."""
        return int(getattr(self.guided() or self.denoiser, "cost", 1))

    def _cost_at(self, k: int) -> int:
        """The rows of the network that one particle takes at a step: some guiders do not guide at all of them."""
        cost_at = getattr(self.guided(), "cost_at", None)
        return self.cost if cost_at is None else int(cost_at(self.process.time(k)))

    @property
    def modality(self) -> str:
        """What the samples are, "molecules", "dna", "images", "videos", "audio" or "text"; "" if unknown."""
        return self.codec.modality

    @property
    def prompts(self) -> Sequence[str]:
        """The prompts of the requests; empty where there are none."""
        return self.requests.prompts

    @property
    def monitor(self) -> Monitor:
        """The counters of the run."""
        return self.requests.monitor

    def decode(self, x: Tensor) -> Any:
        """The samples of clean rows, with shape `(n, *event)`."""
        return self.codec.decode(x)

    def views(self, x: Tensor, preview: bool = False) -> Views:
        """Clean rows, with shape `(n, *event)`, in the forms that rewards take; `preview` as look-aheads have them."""
        return Views(x, self.codec, preview, self.monitor, self.process.tokens)

    def encode(self, sample: Any) -> Tensor:
        """The clean row of a sample, with shape `(*event)`; GuidedError if the model cannot encode it."""
        if self.codec.encode is None:
            raise GuidedError(f"{self.name} cannot encode samples")
        return self.codec.encode(sample)

    def trainable(self, otherwise: str = "it cannot be trained") -> Network:
        """The network.

        Args:
            otherwise: What does not work without it; the end of the error's message.

        Raises:
            GuidedError: The model does not say which network it has.
        """
        if self.network is None:
            raise GuidedError(f"{self.name} does not say which network it has: {otherwise}")
        return self.network

    @property
    def differentiable(self) -> bool:
        """Whether gradients go through its network; they do not where a pipeline's own loop calls it."""
        return bool(getattr(self.denoiser, "differentiable", True))

    def with_steps(self, K: int) -> "Diffusion":
        """The same model with `K` reverse steps."""
        model = replace(self, process=self.process.with_steps(K))
        model = model.with_requests(guidance=model._timed(self.requests.guidance))
        if not hasattr(self.denoiser, "with_steps"):
            return model
        denoiser: Any = self.denoiser.with_steps(K)  # a loop is one of a number of steps
        network = self.network and replace(self.network, around=denoiser.around)
        return replace(model, denoiser=denoiser, network=network)

    def close(self) -> None:
        """Ends what its denoisers have running, as a pipeline's loop; the model can be used again."""
        for denoiser in (self.denoiser, self.prompting.negative):
            close = getattr(denoiser, "close", None)
            if close is not None:
                close()

    def with_negative(self, denoiser: Denoiser) -> "Diffusion":
        """The same model with another denoiser on the negative side of its guidance."""
        return replace(self, prompting=replace(self.prompting, negative=denoiser))

    def with_guider(self, guider: Guider | None) -> "Diffusion":
        """The same model, guided by another formula than that of a weight when it is prompted."""
        return replace(self, prompting=replace(self.prompting, guider=guider))

    def with_requests(self, **changes: Any) -> "Diffusion":
        """The same model with other entries of its :class:`Requests`: conditions, prompts, editing, monitor."""
        return replace(self, requests=replace(self.requests, **changes))

    def pinned(self, fixed: Tensor) -> "Diffusion":
        """The same model with pinned tokens, with shape `(L,)`, or `(B, L)` for each request.

        Raises:
            GuidedError: The model is not a masked one, or the tokens do not fit.
        """
        if self.process.tokens is None:
            raise GuidedError(f"{self.name} is a continuous model; only masked models have tokens to pin")
        return replace(self, process=self.process.pinned(fixed))

    def prompted(
        self,
        prompts: Sequence[str | None],
        guidance: float | None = None,
        negative: Sequence[str | None] | None = None,
        rescale: float = 0.0,
    ) -> "Diffusion":
        """The same model for as many requests as prompts, with classifier-free guidance.

        Args:
            prompts: A prompt for each request; None stands for no prompt.
            guidance: The weight; None for the model's own, or 1.5 where it has only a negative denoiser; 1 for no
                guidance.
            negative: A negative prompt for each request; None for the model's unconditional one.
            rescale: The share of guidance rescale, in [0, 1].

        Raises:
            GuidedError: The model takes no prompt, or a negative prompt or a rescale is given without guidance.
        """
        self.prompting.check(self.name, prompts, negative)
        conditions, guided = self.prompting.resolve(prompts, guidance, negative, rescale)
        texts = tuple(prompt or "" for prompt in prompts)
        model = self.with_requests(conditions=conditions, guidance=self._timed(guided), prompts=texts)
        model.guided()  # raises if the weight or the rescale is out of range
        return model

    def edited(self, sample: Any, strength: float | None = None, mask: Any = None) -> "Diffusion":
        """The same model, starting from a sample instead of noise.

        Args:
            sample: What `codec.encode` takes: an image, say.
            strength: The share of the steps that are taken, in (0, 1]; None for 0.8, or with a mask for 1, which starts
                from noise where the sample may change.
            mask: Where the sample may change, as `codec.region` takes it; None for everywhere.

        Raises:
            GuidedError: The model cannot encode samples, the strength is out of range, or 1 although nothing is
                kept, or the model takes no masks.
        """
        if self.process.tokens is not None:
            raise GuidedError(f"{self.name} cannot start from a sample: only models of images or videos can")
        return self.with_requests(editing=self.codec.editing(self.name, sample, strength, mask))

    def select(self, requests: list[int]) -> "Diffusion":
        """The same model for some of the requests only."""
        return replace(self, process=self.process.select(requests), requests=self.requests.select(requests))

    def start(self, streams: Streams, N: int = 1) -> Particles:
        """Draws `N` particles for each request: from the prior, or around the clean rows that it starts from."""
        editing = self.requests.editing
        x, k = (self.process.prior(N, streams), 0) if editing is None else editing.start(self.process, N, streams)
        return Particles(self, x, k, streams)

    def restart(self, x: Tensor, k: int, streams: Streams) -> Particles:
        """Noises clean rows, with shape `(B, N, *event)`, back to step `k`."""
        return Particles(self, self.process.noise(x, k, streams), k, streams)

    def _timed(self, guidance: Guidance | None) -> Guidance | None:
        """The guidance, which knows the times of a run's steps if it is a guider's."""
        if guidance is None or guidance.guider is None:
            return guidance
        guidance = replace(guidance, guider=guidance.guider.fresh())
        return replace(guidance, times=[self.process.time(k) for k in range(self.steps + 1)])

    def guided(self) -> Denoiser | None:
        """The denoiser with the requests' guidance, None where they have none; GuidedError if it is out of range."""
        guidance = self.requests.guidance
        if guidance is None:
            return None
        if guidance.guider is not None:
            first = self.requests.first_step(len(guidance.times) - 1)
            return guidance.guider.around(self.denoiser, self.prompting.negative, guidance.times[first:])
        return Guided(self.denoiser, guidance.scale, self.prompting.negative, guidance.rescale)

    def predict(
        self, x: Tensor, t: Tensor, conditions: Conditions | None = None, place: tuple[Rows, int] | None = None
    ) -> Tensor:
        """The output for rows `(n, *event)` at times `(n,)`, with conditions `(n, *)` and the requests' guidance.

        Args:
            x: The rows.
            t: Their times.
            conditions: Their conditions.
            place: Which of the rows of a step these are, and how many it has; None for all.
        """
        conditions, guided = conditions or Conditions(), self.guided()
        at = getattr(guided, "at", None)
        if place is not None and at is not None:
            guided = at(*place)
        if guided is None:
            return self.denoiser(x, t, **conditions.positive)
        return conditions.ask(guided, x, t)

    def evaluate(self, x: Tensor, k: int, parents: Outputs | None = None) -> Outputs:
        """Runs the network on particles, with shape `(B, N, *event)`, at step `k`.

        A masked model evaluates equal rows of a request once (of all requests, where there are no conditions), and
        reuses the parent's output where a row equals its parent.

        Args:
            x: The particles.
            k: The step.
            parents: Outputs that still hold for the rows that are equal to theirs, indexed by `(B, N)`.
        """
        network = partial(self._network, k=k)
        counted = self.requests.spending is not None and self.requests.spending.budget.rows is not None
        return evaluate(network, self.process, x, parents, by_request=bool(self.requests.conditions) or counted)

    def _network(self, rows: Tensor, request: Tensor, k: int) -> Tensor:
        """The network's outputs, with shape `(n, *)`."""
        return self.counted(lambda part: self.ask(rows[part], request[part], k, (part, len(rows))), request, k)

    def ask(self, x: Tensor, request: Tensor, k: int, place: tuple[Rows, int] | None = None) -> Tensor:
        """The network's outputs at one micro-batch, with shape `(m, *)`; use :meth:`counted` around it.

        The time reaches the network here and nowhere else.

        Args:
            x: The rows, with shape `(m, *event)`.
            request: The request of each, with shape `(m,)`.
            k: The step.
            place: Which of the rows of the step these are, and how many it has; None for all.
        """
        t = torch.full((len(x),), self.process.time(k), dtype=torch.float32, device=x.device)
        y = self.predict(x, t, self.requests.conditions.take(request), place)
        check_output(y, (len(x), *self.process.output), self.process.predicts)
        return y if self.requests.editing is None else self.requests.editing.clamp(y, request)

    def counted(self, fn: Callable[[Rows], Tensor], request: Tensor, k: int) -> Tensor:
        """What a function that asks the network once about each row gives, part by part; the rows are counted.

        Args:
            fn: Maps some of the rows to a tensor, with shape `(m, *)`.
            request: The request of each row, with shape `(n,)`.
            k: The step.
        """
        with self.monitor.time("network"), torch_defaults() if self.identity else nullcontext():
            y = self.evaluator(fn, len(request), lambda n: self.monitor.count(n * self._cost_at(k)))
        if self.requests.spending is not None:
            self.requests.spending.count(request, self._cost_at(k))  # a loop knows its cost when it has been asked
        return y
