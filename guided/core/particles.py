"""Particles that move through a model, and the network's outputs that travel with them."""

__all__ = ["Outputs", "Particles", "gather"]

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from einops import repeat
from torch import Tensor

from guided.core.random import Streams
from guided.errors import GuidedError

if TYPE_CHECKING:
    from guided.core.diffusion import Diffusion


@dataclass(frozen=True)
class Outputs:
    """The network's outputs at distinct rows; particle (b, n) has row `index[b, n]`.

    Attributes:
        x: The rows, with shape `(u, *event)`.
        y: The outputs, with shape `(u, *)`.
        index: With shape `(B, N)`.
    """

    x: Tensor
    y: Tensor
    index: Tensor

    def take(self, index: Tensor) -> "Outputs":
        return replace(self, index=gather(self.index, index))

    def compact(self) -> "Outputs":
        """Only the rows that are in use, so that what was not selected can be forgotten."""
        used, inverse = self.index.unique(return_inverse=True)
        return Outputs(self.x[used], self.y[used], inverse)


class Particles:
    """`N` particles for each of `B` requests, at step `k` of the reverse process.

    The network's output is computed when first asked for and then goes where its particle goes, so a candidate
    that was looked at is not evaluated again when it is selected and moved.

    Attributes:
        x: The particles, with shape `(B, N, *event)`.
        k: The step, from 0 (noise) to `model.steps` (data).
        streams: The random streams of the requests.
    """

    def __init__(
        self,
        model: "Diffusion",
        x: Tensor,
        k: int,
        streams: Streams,
        outputs: Outputs | None = None,
        parents: Outputs | None = None,
    ) -> None:
        self.model, self.x, self.k, self.streams = model, x, k, streams
        self._outputs, self._parents = outputs, parents

    @property
    def done(self) -> bool:
        return self.k == self.model.steps

    @property
    def outputs(self) -> Outputs:
        if self._outputs is None:
            self._outputs = self.model.evaluate(self.x, self.k, self._parents)
        return self._outputs

    @property
    def clean(self) -> tuple[Tensor, Tensor]:
        r"""The look-ahead :math:`\hat{x}_0(x_k)`, or `x` itself at the last step: rows with shape `(u, *event)`, and
        the index `(B, N)` of each particle's row.
        """
        if self.done:
            B, N = self.x.shape[:2]
            return self.x.flatten(0, 1), torch.arange(B * N, device=self.x.device).view(B, N)
        outputs = self.outputs.compact()  # nobody shall be asked about rows that no particle holds
        return self.model.process.estimate(outputs.x, outputs.y), outputs.index

    def draw(self, draws: int) -> Tensor:
        """Clean samples from the network's one-step law, with shape `(B, N * draws, *event)`."""
        y = self.outputs.y[self.outputs.index]
        return self.model.process.draw(self.x, y, draws, self.streams)

    def propose(self, M: int = 1) -> "Particles":
        """Moves one step, with `M` candidates for each particle; the shape is `(B, N * M, *event)`.

        Raises:
            ValueError: The particles have arrived.
        """
        if self.done:
            raise GuidedError(f"the particles are at the last step, {self.k}; there is no further one")
        model, outputs = self.model, self.outputs.compact() if self.model.process.discrete else self.outputs
        x = model.process.propose(self.x, outputs.y[outputs.index], self.k, M, self.streams)
        parents = None
        if model.process.discrete and not model.timed:
            parents = replace(outputs, index=repeat(outputs.index, "B N -> B (N M)", M=M))
        model.monitor.step(self.k + 1)
        return Particles(model, x, self.k + 1, self.streams, parents=parents)

    def take(self, index: Tensor) -> "Particles":
        """Keeps the particles at `index`, with shape `(B, N')`, of each request."""
        outputs, parents = (o and o.take(index) for o in (self._outputs, self._parents))
        return Particles(self.model, gather(self.x, index), self.k, self.streams, outputs, parents)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Picks `x[b, index[b, n]]`: `(B, N, *)` by `(B, N')` to `(B, N', *)`."""
    return x[torch.arange(len(x), device=x.device)[:, None], index.to(x.device)]
