"""A pretrained diffusion model."""

__all__ = ["Diffusion"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from guided.core.batching import Evaluator, distinct
from guided.core.denoiser import Denoiser, Network
from guided.core.editing import Origin, default_strength
from guided.core.guidance import Guided, paired
from guided.core.monitor import Monitor
from guided.core.particles import Outputs, Particles
from guided.core.process import Process
from guided.core.random import Streams
from guided.errors import GuidedError

AGAINST = 1.5  # the weight against a negative checkpoint, of a model without a weight of its own


@dataclass(frozen=True)
class Diffusion:
    """A frozen denoiser, its process, and what it is conditioned on.

    Arguments:
        denoiser: The only thing that runs a network.
        process: The reverse chain.
        decode: Maps clean rows `(n, *event)` to `n` samples (SMILES, images, sequences).
        preview: A cheaper `decode` for look-aheads, as by a small decoder; None for the same one.
        encode: Maps one sample to its clean row `(*event)`.
        region: Maps a mask over a sample to where its row is free, with shape `(*event)` or one that broadcasts to it.
        kind: What the samples are, "molecules", "dna", "images" or "videos"; "" where nobody says.
        condition: Maps `n` prompts to the conditions of as many requests, with shape `(n, *)` each; None for an
            unconditional model.
        unconditional: The prompt that stands for none, the negative side of classifier-free guidance.
        guidance: The weight of classifier-free guidance where none is asked for; None for none.
        negative: The negative side of guidance; None for the denoiser itself without a prompt.
        network: The network in the denoiser, where another one can take its place; None where nobody says.
        examples: Some prompts that the model knows, for trainings that need any.
        cond: The conditions of the requests, with shape `(B, *)` each.
        timed: Whether the network's output depends on the time. If it does not, and the process is discrete, a
            candidate equal to its parent keeps its parent's output.
        device: Where particles live.
        evaluator: Micro-batches of network rows.
        monitor: Counters.
        name: What the model was loaded as.
        identity: A digest of the weights.
        prompts: The prompts of the requests, for rewards that ask; empty where there are none.
        origin: The clean rows that requests start from, or keep parts of; None to start from noise.
    """

    denoiser: Denoiser
    process: Process
    decode: Callable[[Tensor], Any] = lambda x: x
    preview: Callable[[Tensor], Any] | None = None
    encode: Callable[[Any], Tensor] | None = None
    region: Callable[[Any], Tensor] | None = None
    kind: str = ""
    condition: Callable[[Sequence[Any]], Mapping[str, Tensor]] | None = None
    unconditional: str | None = ""
    guidance: float | None = None
    negative: Denoiser | None = None
    network: Network | None = None
    examples: Sequence[str] = ()
    cond: Mapping[str, Tensor] = field(default_factory=dict)
    timed: bool = True
    device: torch.device = torch.device("cpu")
    evaluator: Evaluator = field(default_factory=Evaluator)
    monitor: Monitor = field(default_factory=Monitor)
    name: str = "model"
    identity: str = ""
    prompts: Sequence[str] = ()
    origin: Origin | None = None

    @property
    def steps(self) -> int:
        return self.process.steps

    def with_steps(self, K: int) -> "Diffusion":
        """The same model with `K` reverse steps."""
        return replace(self, process=self.process.with_steps(K))

    def pinned(self, fixed: Tensor) -> "Diffusion":
        """The same model with pinned tokens, with shape `(L,)`, or `(B, L)` for each request.

        Raises:
            ValueError: The model is not a masked one, or the tokens do not fit.
        """
        pinned = getattr(self.process, "pinned", None)
        if pinned is None:
            raise GuidedError(f"{self.name} is a continuous model; only masked models have tokens to pin")
        return replace(self, process=pinned(fixed))

    def prompted(
        self,
        prompts: Sequence[str | None],
        guidance: float | None = None,
        negative: Sequence[str | None] | None = None,
        rescale: float = 0.0,
    ) -> "Diffusion":
        """The same model for as many requests as prompts, with classifier-free guidance.

        Arguments:
            prompts: A prompt for each request; None stands for none.
            guidance: The weight; None for the model's own, or `AGAINST` where it has none but a negative side; 1 for
                no guidance.
            negative: A negative prompt for each request; None for the model's unconditional one.
            rescale: The share of guidance rescale, in [0, 1].

        Raises:
            ValueError: The model takes no prompt, or a negative prompt or a rescale has no guidance to go with.
        """
        condition, told = self._conditions(prompts, negative), tuple(prompt or "" for prompt in prompts)
        usual = AGAINST if self.guidance is None and self.negative is not None else self.guidance
        guidance = usual if guidance is None else guidance
        cond, plain = condition(prompts), self.denoiser
        if isinstance(plain, Guided) and plain.negative is self.negative:  # by an earlier call
            plain = plain.positive
        same = negative is None and all(prompt == self.unconditional for prompt in prompts)
        none = same and self.negative is None  # both sides are the same
        if guidance is None or none or (guidance == 1 and negative is None):
            if negative is not None or (rescale and not none):
                raise GuidedError("a negative prompt and a guidance rescale need guidance; give its weight")
            return replace(self, cond=cond, denoiser=plain, prompts=told)
        against = condition([self.unconditional] * len(prompts) if negative is None else negative)
        cond = paired(cond, against)
        return replace(self, cond=cond, denoiser=Guided(plain, guidance, self.negative, rescale), prompts=told)

    def _conditions(
        self, prompts: Sequence[str | None], negative: Sequence[str | None] | None
    ) -> Callable[[Sequence[Any]], dict[str, Tensor]]:
        """What maps prompts to conditions: to none, in an unconditional model that has a negative side."""
        condition = self.condition
        if condition is not None:
            return lambda prompts: dict(condition(prompts))
        if self.negative is None:
            raise GuidedError(
                f"{self.name} takes no prompt and no guidance: it is unconditional, "
                "and has no negative checkpoint to lead away from"
            )
        if any(prompts) or negative is not None:
            raise GuidedError(f"{self.name} takes no prompt: it is unconditional")
        return lambda prompts: {}

    def edited(self, sample: Any, strength: float | None = None, mask: Any = None) -> "Diffusion":
        """The same model, starting from a sample instead of noise.

        Arguments:
            sample: What `encode` takes: an image, say.
            strength: The share of the steps that are taken, in (0, 1]; None for 0.8, or with a mask for 1, which starts
                from noise where the sample may change.
            mask: Where the sample may change, as `region` takes it; None for everywhere.

        Raises:
            ValueError: The model cannot encode samples, the strength is out of range, or 1 with nothing that is kept,
                or there is no such mask.
        """
        if self.encode is None or self.process.discrete:
            raise GuidedError(f"{self.name} cannot start from a sample: only models of images or videos can")
        if mask is not None and self.region is None:
            raise GuidedError(f"{self.name} has no masks")
        free = None if mask is None or self.region is None else self.region(mask)[None]
        strength = default_strength(mask is not None) if strength is None else strength
        return replace(self, origin=Origin(self.encode(sample)[None], strength, free))

    def select(self, requests: list[int]) -> "Diffusion":
        """The same model for some of the requests only."""
        cond = {name: c[requests] for name, c in self.cond.items()}
        prompts = [self.prompts[i] for i in requests] if self.prompts else ()
        origin = self.origin and self.origin.select(requests)
        return replace(self, cond=cond, process=self.process.select(requests), prompts=prompts, origin=origin)

    def start(self, streams: Streams, N: int = 1) -> Particles:
        """Draws `N` particles for each request: from the prior, or around the clean rows that it starts from."""
        if self.origin is None:
            return Particles(self, self.process.prior(N, streams), 0, streams)
        k, known = self.origin.begin(self.steps), self.origin.particles(N, len(streams))
        if k > 0:
            return Particles(self, self.process.noise(known, k, streams), k, streams)
        x = self.process.prior(N, streams)
        return Particles(self, self.origin.keep(x, self.process.noise(known, 0, streams)), 0, streams)

    def restart(self, x: Tensor, k: int, streams: Streams) -> Particles:
        """Noises clean rows, with shape `(B, N, *event)`, back to step `k`."""
        return Particles(self, self.process.noise(x, k, streams), k, streams)

    def evaluate(self, x: Tensor, k: int, parents: Outputs | None = None) -> Outputs:
        """Runs the network on particles, with shape `(B, N, *event)`, at step `k`.

        In a discrete model equal rows of a request are evaluated once (of all requests, where there are no
        conditions), and a row equal to that of its parent not at all.

        Arguments:
            x: The particles.
            k: The step.
            parents: Outputs that still hold for the rows that are equal to theirs, indexed by `(B, N)`.
        """
        rows = x.flatten(0, 1)
        request = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
        if not self.process.discrete:
            index = torch.arange(len(rows), device=x.device).view(x.shape[:2])
            return Outputs(rows, self._network(rows, request, k), index)

        todo = torch.arange(len(rows), device=x.device)
        if parents is not None:
            todo = todo[(rows != parents.x[parents.index.flatten()]).flatten(1).any(1)]
        first, inverse = distinct(rows[todo], request[todo] if self.cond else None)
        new = todo[first]
        if parents is None:
            return Outputs(rows[new], self._network(rows[new], request[new], k), inverse.view(x.shape[:2]))
        index = parents.index.flatten().index_put((todo,), len(parents.x) + inverse).view(x.shape[:2])
        if not len(new):
            return Outputs(parents.x, parents.y, index)
        y = self._network(rows[new], request[new], k)
        return Outputs(torch.cat([parents.x, rows[new]]), torch.cat([parents.y, y]), index)

    def _network(self, rows: Tensor, request: Tensor, k: int) -> Tensor:
        """The network's outputs, with shape `(n, *)`. The time reaches the network here and nowhere else."""
        t = torch.full((len(rows),), self.process.time(k), device=rows.device)

        def fn(part: slice) -> Tensor:
            cond = {name: c[request[part]] for name, c in self.cond.items()}
            y = self.denoiser(rows[part], t[part], **cond)
            self._check(y, (len(rows[part]), *self.process.output))
            y = y if self.origin is None else self.origin.clamp(y, request[part])
            self.monitor.count(len(rows[part]) * getattr(self.denoiser, "cost", 1))  # a call that failed cost nothing
            return y

        with self.monitor.time("network"):
            return self.evaluator(fn, len(rows))

    def _check(self, y: Tensor, wanted: tuple[int, ...]) -> None:
        """Says early what would otherwise be broadcast, or drawn as a token that does not exist."""
        if not isinstance(y, Tensor) or tuple(y.shape) != wanted or not y.is_floating_point():
            given = f"shape {tuple(y.shape)} and type {y.dtype}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise GuidedError(
                f"the denoiser returned {given}; it must be a floating-point tensor of shape {wanted}: "
                + ("log-probabilities of the tokens without the mask" if self.process.discrete else "the clean means")
            )
