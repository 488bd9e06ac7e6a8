"""Particles that move through a model, with the network's outputs."""

__all__ = ["Model", "Particles"]

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from guided.core.codec import Codec
from guided.core.lookahead import LookAhead
from guided.core.outputs import Outputs, gather
from guided.core.process import Process
from guided.core.random import Streams
from guided.core.requests import Requests
from guided.core.views import EachPrompt, Views
from guided.errors import GuidedError


class Model(Protocol):
    """What particles need from a model; :class:`guided.core.diffusion.Diffusion` has it."""

    @property
    def process(self) -> Process:
        """The reverse chain."""
        ...

    @property
    def steps(self) -> int:
        """The number of steps `K`."""
        ...

    @property
    def codec(self) -> Codec:
        """What decodes clean rows."""
        ...

    @property
    def cost(self) -> int:
        """The number of rows of the network that one particle takes: 2 with guidance."""
        ...

    @property
    def timed(self) -> bool:
        """Whether the network's output depends on the time."""
        ...

    @property
    def requests(self) -> Requests:
        """The requests whose particles move."""
        ...

    @property
    def room(self) -> int:
        """The number of rows whose outputs are held at a time; it takes more for large outputs to be computed twice."""
        ...

    def select(self, requests: list[int]) -> "Model":
        """The same model for some of the requests only."""
        ...

    def evaluate(self, x: Tensor, k: int, parents: Outputs | None = None) -> Outputs:
        """The network's outputs at particles, with shape `(B, N, *event)`, at step `k`."""
        ...


class Particles:
    """`N` particles for each of `B` requests, at step `k` of the reverse process.

    The network's output is computed when it is first needed, and stays with its particle: a candidate that was
    evaluated for its look-ahead is not evaluated again when it is selected and moved. Outputs that are too large to be
    held (a text model's, with as many numbers as it has tokens at every position) are the exception: they are reduced
    to clean rows as they come, and those of the selected particles are computed again.

    Attributes:
        model: The model that they move through.
        x: The particles, with shape `(B, N, *event)`.
        k: The step, from 0 (noise) to `model.steps` (data).
        streams: The random streams of the requests.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        k: int,
        streams: Streams,
        outputs: Outputs | None = None,
        parents: Outputs | None = None,
    ) -> None:
        self.model, self.x, self.k, self.streams = model, x, k, streams
        self._outputs, self._parents = outputs, parents
        self._some: tuple[list[int], Outputs] | None = None  # outputs of some of the requests

    @property
    def requests(self) -> Requests:
        """The requests: their conditions and prompts, and the counters of the run."""
        return self.model.requests

    @property
    def done(self) -> bool:
        return self.k == self.model.steps

    @property
    def outputs(self) -> Outputs:
        if self._outputs is None:
            self._outputs = self._evaluated()
        return self._outputs

    def know(self, outputs: Outputs) -> None:
        """Keeps outputs that were computed for these particles elsewhere."""
        self._outputs = outputs

    def _evaluated(self) -> Outputs:
        if self._some is None:
            return self.model.evaluate(self.x, self.k, self._parents)
        requests, some = self._some
        others = [b for b in range(len(self.x)) if b not in {*requests}]
        return Outputs.merge([(requests, some), (others, self.select(others).outputs)])

    def learn(self, part: "Particles", requests: list[int]) -> None:
        """Keeps the outputs that were computed for the particles of some requests, `select(requests)`."""
        if self._outputs is None and part._outputs is not None and 0 < len(requests) < len(self.x):
            self._some = (requests, part._outputs)

    def look_ahead(
        self, draws: int = 1, *, preview: bool = True, by_request: bool = False, distinct: bool = True
    ) -> LookAhead:
        r"""The clean samples :math:`\hat{x}_0(x_k)` that the particles point to, or at the last step the particles.

        Args:
            draws: The number of samples that are drawn from the network's one-step distribution for each particle; 1
                is its mode, or the clean mean. At the last step it is 1.
            preview: Whether the look-ahead's own decoder is used before the last step, where the model has one.
            by_request: Whether equal samples of two requests are kept apart, each with its own prompt.
            distinct: Whether equal rows are found, and given once. If not, there is a row for each draw of each
                particle, in their order, and nothing waits for the device.
        """
        rows = self._clean() if draws == 1 or self.done else self.draw(draws).flatten(0, 1)
        owner = _owners(len(self.x), len(rows), rows.device) if by_request else None
        index = torch.arange(len(rows), device="cpu")
        if distinct:
            first, index = self.model.process.distinct(rows, owner)
            rows, owner = rows[first], None if owner is None else owner[first]
        prompts = None if owner is None else EachPrompt.of(self.requests.prompts, rows.device).select(owner)
        codec, tokens = self.model.codec, self.model.process.tokens
        views = Views(rows, codec, preview and not self.done, self.requests.monitor, tokens)
        return LookAhead(views, index.view(*self.x.shape[:2], -1), prompts)

    def _clean(self) -> Tensor:
        """The clean row that each particle points to, with shape `(B * N, *event)`."""
        if self.done:
            return self.x.flatten(0, 1)
        if self._outputs is None and self._large:
            return torch.cat([part._clean() for part in self._parts()])
        outputs = self.outputs  # an output that several particles share is reduced once
        return self.model.process.estimate(outputs.x, outputs.y)[outputs.index.flatten()]

    def draw(self, draws: int) -> Tensor:
        """Clean samples from the network's one-step distribution, with shape `(B, N * draws, *event)`."""
        if self._outputs is None and self._large:
            return torch.cat([part.draw(draws) for part in self._parts()])
        y = self.outputs.y[self.outputs.index]
        return self.model.process.draw(self.x, y, draws, self.streams)

    def propose(self, M: int = 1) -> "Particles":
        """Moves one step, with `M` candidates for each particle; the shape is `(B, N * M, *event)`.

        Raises:
            GuidedError: The particles are at the last step.
        """
        if self.done:
            raise GuidedError(f"the particles are at the last step, {self.k}; there is no further one")
        parents = None
        if self._large:
            x = torch.cat([part._moved(M)[0] for part in self._parts()])
        else:
            x, y = self._moved(M)
            if not self.model.timed:  # a candidate equal to its parent keeps its parent's output
                parents = self._each(y, M)
        self.requests.monitor.step(self.k + 1)
        return Particles(self.model, x, self.k + 1, self.streams, parents=parents)

    def _each(self, y: Tensor, M: int = 1) -> Outputs:
        """The outputs `y` of each particle, with shape `(B, N, *)`, `M` times in a row."""
        B, N = self.x.shape[:2]
        index = torch.arange(B * N, device=self.x.device).view(B, N).repeat_interleave(M, 1)
        return Outputs(self.x.flatten(0, 1), y.flatten(0, 1), index)

    def _moved(self, M: int) -> tuple[Tensor, Tensor]:
        """The candidates, and the outputs that they were drawn from, with shape `(B, N, *)`."""
        y = self.outputs.y[self.outputs.index]
        return self.model.process.propose(self.x, y, self.k, M, self.streams), y

    @property
    def _large(self) -> bool:
        """Whether the outputs of all particles take too much memory: then some requests are served at a time."""
        return self.x.shape[0] > 1 and self.x.shape[0] * self.x.shape[1] > self.model.room

    def _parts(self) -> Iterator["Particles"]:
        """The particles of some requests at a time; outputs that are computed for a part go with it."""
        B, N = self.x.shape[:2]
        for part in torch.arange(B, device="cpu").split(max(1, self.model.room // N)):
            yield self.select(part.tolist())

    def select(self, requests: list[int]) -> "Particles":
        """The particles of some requests only, with their outputs; they draw from the streams of those requests.

        Args:
            requests: Which, as positions in 0..B-1, each at most once.
        """
        outputs, parents = (
            held and replace(held, index=held.index[requests]) for held in (self._outputs, self._parents)
        )
        streams = self.streams.take(requests)
        return Particles(self.model.select(requests), self.x[requests], self.k, streams, outputs, parents)

    def follow(self, x: Tensor) -> "Particles":
        """Moves one step to given states, with shape `(B, N, *event)`, instead of drawn ones."""
        parents = None
        if not (self.done or self.model.timed or self._large):
            parents = self._each(self.outputs.y[self.outputs.index])
        return Particles(self.model, x, self.k + 1, self.streams, parents=parents)

    def looking(self, rows: int = 1) -> list[int]:
        """The requests whose budget lets all their particles be looked at and one of them still move to the end, as
        positions. What is finished is looked at however late it is.

        Args:
            rows: The network rows of a look at a particle.
        """
        spending = self.requests.spending
        if spending is None or self.done:
            return list(range(len(self.x)))
        return spending.open(rows=(rows * self.x.shape[1] + self.model.steps - self.k - 1) * self.model.cost, calls=2)

    def first(self) -> "Particles":
        """The first particle of each request; what a guider keeps of the others is dropped, so that none branches."""
        B, N = self.x.shape[:2]
        if not self.done:
            self.requests.keep(torch.arange(B, device=self.x.device) * N)
        return self._taken(torch.zeros(B, 1, dtype=torch.long, device="cpu"))

    def take(self, index: Tensor) -> "Particles":
        """Keeps the particles at `index`, with shape `(B, N')`, of each request.

        Raises:
            GuidedError: The requests' guider keeps something of each particle, and this is not the end.
        """
        if not self.done:
            self.requests.check_branching()
        return self._taken(index)

    def _taken(self, index: Tensor) -> "Particles":
        if self.x.is_cuda and not index.is_cuda:
            index = index.pin_memory().to(self.x.device, non_blocking=True)  # else the host waits until it is there
        index = index.to(self.x.device)  # once
        outputs = self._outputs and self._outputs.take(index)
        parents = self._parents.take(index) if self._parents and not outputs else None  # no longer needed
        taken = Particles(self.model, gather(self.x, index), self.k, self.streams, outputs, parents)
        if self._some and not outputs:
            requests, some = self._some
            taken._some = (requests, some.take(index[requests]))
        return taken

    @staticmethod
    def join(parts: Sequence["Particles"]) -> "Particles":
        """The particles of several, side by side in each request: `(B, N_i, *event)` to `(B, sum N_i, *event)`.

        Outputs that some of them have stay with their particles, and those of the others are computed then.

        Args:
            parts: At the same step of the same model, and of the same requests with the same streams.

        Raises:
            GuidedError: There is none, or they differ in the step or in the number of requests.
        """
        if len({(part.k, len(part.x)) for part in parts}) != 1:
            given = ", ".join(f"{len(part.x)} requests at step {part.k}" for part in parts)
            raise GuidedError(f"particles to be joined are of the same requests and at the same step, given {given}")
        first = parts[0]
        known = not first.done and any(part._outputs or part._some for part in parts)
        outputs = Outputs.join([part.outputs for part in parts]) if known else None
        before = [part._parents for part in parts if part._parents]
        parents = Outputs.join(before) if outputs is None and len(before) == len(parts) else None
        x = torch.cat([part.x for part in parts], 1)
        return Particles(first.model, x, first.k, first.streams, outputs, parents)

    def merge(self, parts: Sequence[tuple[list[int], "Particles"]]) -> "Particles":
        """The particles of some of these requests each, by their positions, as those of all requests.

        Args:
            parts: At the same step, with as many particles a request; every request is in one of them.
        """
        if len(parts) == 1 and parts[0][0] == list(range(len(self.x))):
            return parts[0][1]
        first = parts[0][1]
        x = first.x.new_empty(len(self.x), *first.x.shape[1:])
        for requests, part in parts:
            x[requests] = part.x
        known = not first.done and any(part._outputs or part._some for _, part in parts)
        outputs = Outputs.merge([(requests, part.outputs) for requests, part in parts]) if known else None
        before = [(requests, part._parents) for requests, part in parts if part._parents]
        parents = Outputs.merge(before) if outputs is None and len(before) == len(parts) else None
        return Particles(self.model, x, first.k, self.streams, outputs, parents)


def _owners(B: int, n: int, device: torch.device) -> Tensor:
    """The request of each of `n` rows, as many for each of `B` requests, with shape `(n,)`."""
    return torch.arange(B, device=device).repeat_interleave(n // B)
