r"""The process of graphs: nodes and adjacency move together, each by an SDE of its own, with symmetric noise.

A row holds a graph of up to `N` nodes: the adjacency, the nodes' features, and a mask that is 1 for the first `n` nodes
and 0 for the others. So masks travel with their particles wherever these go. The noised parts are
:math:`x_t = m(t) x_0 + s(t) \epsilon`, with

.. math:: m(t) = e^{-t^2 (\beta_1 - \beta_0) / 4 - t \beta_0 / 2}, \; s^2 = 1 - m^2 \quad \text{(VP)}, \qquad
    m = 1, \; s(t) = \sigma_0 (\sigma_1 / \sigma_0)^t \quad \text{(VE)}

for the features, say, and the adjacency. The clean means :math:`y` give the score :math:`g = (m y - x) / s^2`. A scale
:math:`t_i` takes two steps, a corrector (Langevin) and a predictor (reverse diffusion):

.. math:: x' = x + \epsilon g + c \sqrt{2 \epsilon} z, \; \epsilon = 2 \alpha_i (r \|z\| / \|g\|)^2 \qquad
    x'' = a_i x' + G_i^2 g' + G_i z

with :math:`G^2 = \beta_i, \alpha_i = 1 - \beta_i, a = 2 - \sqrt{\alpha_i}` (VP) or
:math:`G^2 = \sigma_i^2 - \sigma_{i+1}^2, \alpha = a = 1` (VE); the last predictor adds no noise. Both steps need the
network at the state that they start from, and only there. So each is a step of the chain: an output that was computed
for a candidate's look-ahead moves it on, and `M` candidates at all steps of `K` scales take `1 + M (2 K - 1)`
evaluations of both networks, where correcting, predicting and looking ahead one after another takes `3 M K`.

The size :math:`\epsilon` of a corrector's step is each graph's own. The published code takes means of the norms over
the batch, so that a molecule depends on its neighbours; an option gives that.

References:
    | Score-based Generative Modeling of Graphs via the System of Stochastic Differential Equations (Jo et al., 2022)
    | https://arxiv.org/abs/2202.02514

    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021)
    | https://arxiv.org/abs/2011.13456
"""

__all__ = ["Graphs", "Noise"]

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from einops import repeat
from torch import Tensor

from guided.core.continuous import Continuous
from guided.core.process import check_steps
from guided.core.random import Streams
from guided.errors import GuidedError, check_number

FIRST, LAST = 1.0, 1e-4  # the times of the scales
TINY = 1e-12


@dataclass(frozen=True)
class Noise:
    """How one part of a graph is noised.

    Args:
        kind: "VP" (variance preserving) or "VE" (variance exploding).
        least: The rate of noise at time 0 (VP), or its standard deviation (VE).
        most: The same at time 1.

    Raises:
        GuidedError: The kind is unknown, or the numbers do not increase from above 0.
    """

    kind: str
    least: float
    most: float

    def __post_init__(self) -> None:
        if self.kind not in ("VP", "VE"):
            raise GuidedError(f"the noise is {self.kind!r}; it is one of VP, VE")
        if not 0 < self.least < self.most < math.inf:
            raise GuidedError(f"the noise goes from {self.least} to {self.most}; it must increase from above 0")

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The factor of the data and the standard deviation of the noise, at times of any shape."""
        if self.kind == "VE":
            return torch.ones_like(t), self.least * (self.most / self.least) ** t
        log = -0.25 * t**2 * (self.most - self.least) - 0.5 * t * self.least
        return log.exp(), (-torch.expm1(2 * log)).sqrt()

    def at(self, t: float) -> tuple[float, float]:
        """The same at one time."""
        mean, std = self.marginal(torch.tensor(t, dtype=torch.float64, device="cpu"))
        return mean.item(), std.item()

    def step(self, i: int, scales: int) -> tuple[float, float, float]:
        r"""The numbers :math:`a, G^2` and :math:`\alpha` of scale `i`, from noise, of as many."""
        level = scales - 1 - i
        share = [(level - back) / max(1, scales - 1) for back in (0, 1)]
        if self.kind == "VP":
            beta = (self.least + share[0] * (self.most - self.least)) / scales
            return 2 - (1 - beta) ** 0.5, beta, 1 - beta
        now, before = (self.least * (self.most / self.least) ** part for part in share)
        return 1.0, now**2 - (before**2 if level else 0.0), 1.0


@dataclass(frozen=True)
class Graphs(Continuous):
    r"""Corrector and predictor steps in turn; the network predicts the clean means.

    Args:
        sizes: How often a graph has 0, 1, … `N` nodes: weights, of which the number of nodes is drawn.
        features: The number of features of a node.
        nodes: The noise of the nodes' features.
        edges: The noise of the adjacency.
        steps: The number of steps `K`, two for each scale.
        snr: The ratio :math:`r` of signal and noise in a corrector's step.
        damping: The factor :math:`c` of the corrector's noise.
        by_batch: Whether norms in the corrector are means over all particles, as in the published code.

    Raises:
        GuidedError: A number is out of range, or `steps` is odd.
    """

    sizes: Sequence[float]
    features: int
    nodes: Noise
    edges: Noise
    steps: int = 2000
    snr: float = 0.2
    damping: float = 0.9
    by_batch: bool = False

    predicts = "the clean adjacency, the clean features, and the mask"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(float(weight) for weight in self.sizes))
        if len(self.sizes) < 2 or min(self.sizes) < 0 or not 0 < sum(self.sizes[1:]) < math.inf or self.sizes[0]:
            raise GuidedError("sizes must be weights of 0, 1, ... N nodes: 0 for no nodes, and above 0 for some number")
        check_number("features", self.features, int, least=1)
        for name in ("snr", "damping"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), float, least=0))
        if check_steps(self.steps) % 2:
            raise GuidedError(
                f"steps is {self.steps}; it must be even: a scale is a corrector's step and a predictor's, "
                "so the published 1000 scales are 2000 steps"
            )
        rate = max([noise.most for noise in (self.nodes, self.edges) if noise.kind == "VP"], default=0.0)
        if rate > self.scales:
            raise GuidedError(
                f"steps is {self.steps}; the noise of rate {rate:g} needs at least {2 * math.ceil(rate)}, "
                "with which a scale takes away no more than there is"
            )

    @property
    def places(self) -> int:
        """The largest number of nodes `N`."""
        return len(self.sizes) - 1

    @property
    def event(self) -> tuple[int, ...]:
        return (self.places, self.places + self.features + 1)

    @property
    def output(self) -> tuple[int, ...]:
        return self.event

    @property
    def distribution(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "steps"}

    @property
    def scales(self) -> int:
        return self.steps // 2

    def stochastic(self, k: int) -> bool:
        return k < self.steps - 1

    def time(self, k: int) -> float:
        if k >= self.steps:
            return 0.0
        return FIRST + (LAST - FIRST) * (k // 2) / max(1, self.scales - 1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features `(*, N, features)` and the adjacency `(*, N, N)` of rows."""
        return x[..., self.places : -1], x[..., : self.places]

    def join(self, nodes: Tensor, edges: Tensor, mask: Tensor) -> Tensor:
        """Rows of features, adjacency and mask `(*, N)`; entries of nodes that are not there become 0."""
        row = mask[..., None]
        return torch.cat([edges * row * row.transpose(-1, -2), nodes * row, row], -1)

    def prior(self, N: int, streams: Streams) -> Tensor:
        ends = torch.tensor(self.sizes, dtype=torch.float64, device="cpu").cumsum(0)
        n = torch.searchsorted(ends, streams.uniform(N).cpu().double() * ends[-1], right=True).to(streams.device)
        mask = (torch.arange(self.places, device=n.device) < n[..., None]).float()
        nodes, edges = self._normal(mask, streams)
        return self.join(nodes, edges * (self.edges.most if self.edges.kind == "VE" else 1.0), mask)

    def propose(self, x: Tensor, y: Tensor, k: int, M: int, streams: Streams) -> Tensor:
        x, y = (repeat(rows, "B N ... -> B (N M) ...", M=M) for rows in (x, y))
        mask, t = x[..., -1], self.time(k)
        drawn: Sequence[Tensor | None] = self._normal(mask, streams) if self.stochastic(k) else (None, None)
        parts = []
        for noise, state, clean, z in zip((self.nodes, self.edges), self.split(x), self.split(y), drawn, strict=True):
            mean, std = noise.at(t)
            score = (mean * clean - state) / std**2
            shrink, variance, alpha = noise.step(k // 2, self.scales)
            if k % 2 == 0 and z is not None:
                parts.append(self._corrected(state, score, z, alpha))
            else:
                state = shrink * state + variance * score
                parts.append(state if z is None else state + variance**0.5 * z)
        nodes, edges = parts
        return self.join(nodes, edges, mask)

    def _corrected(self, state: Tensor, score: Tensor, z: Tensor, alpha: float) -> Tensor:
        """A Langevin step of one part, whose size is the graph's own, or the batch's."""
        noise, slope = (part.flatten(2).norm(dim=-1) for part in (z, score))
        if self.by_batch:
            noise, slope = noise.mean(), slope.mean()
        size = 2 * alpha * (self.snr * noise / slope.clamp(min=TINY)) ** 2
        size = size[..., None, None]
        return state + size * score + self.damping * (2 * size).sqrt() * z

    def _normal(self, mask: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        """Normal numbers for nodes and, mirrored, for pairs of them; 0 where there are none."""
        N, F = self.places, self.features
        numbers = streams.normal(mask.shape[1], N * F + N * (N - 1) // 2)
        nodes = numbers[..., : N * F].unflatten(-1, (N, F)) * mask[..., None]
        i, j = torch.triu_indices(N, N, 1, device=numbers.device)
        edges = numbers.new_zeros(*mask.shape, N)
        edges[..., i, j] = numbers[..., N * F :] * mask[..., i] * mask[..., j]
        return nodes, edges + edges.transpose(-1, -2)

    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        return y

    def noise(self, x: Tensor, k: int, streams: Streams) -> Tensor:
        if k >= self.steps:
            return x
        mask, parts = x[..., -1], []
        for noise, clean, z in zip((self.nodes, self.edges), self.split(x), self._normal(mask, streams), strict=True):
            mean, std = noise.at(self.time(k))
            parts.append(mean * clean + std * z)
        nodes, edges = parts
        return self.join(nodes, edges, mask)

    def with_steps(self, K: int) -> "Graphs":
        return replace(self, steps=K)

    def strided(self, k: int, steps: int, drawn: bool = True) -> "Graphs":
        raise GuidedError(
            "a model of graphs takes no rollout: its chain has a step for each scale, and none that is longer"
        )
