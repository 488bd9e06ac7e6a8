r"""The network of values of noisy graphs.

A row is that of :class:`guided.core.graphs.Graphs`: the adjacency, the nodes' features, and a mask of the nodes that
are there. An entry of the noisy adjacency becomes a few channels by a perceptron that is given the time, as what is a
bond depends on the noise. Nodes sum their neighbours' features over each channel, some times, and the value is that of
the sum and the maximum over nodes. The order of the nodes does not matter.
"""

__all__ = ["GraphValue"]

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from guided.nets.value_parts import Condition, Head, zero


class Bonds(nn.Module):
    """Channels of the noisy adjacency, `(n, N, N)` and the condition `(n, width)` to `(n, channels, N, N)`."""

    def __init__(self, width: int, channels: int, hidden: int = 16) -> None:
        super().__init__()
        self.entry, self.time = nn.Linear(1, hidden), nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, channels)

    def forward(self, edges: Tensor, c: Tensor) -> Tensor:
        h = self.entry(edges[..., None]) + self.time(c)[:, None, None]
        return rearrange(self.out(F.gelu(h)), "n i j channel -> n channel i j")


class Round(nn.Module):
    """A residual sum over neighbours, scaled and shifted by the condition; the identity at the start."""

    def __init__(self, width: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.film = nn.Linear(width, 2 * width)
        self.first, self.second = nn.Linear((1 + channels) * width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        zero(self.film)
        zero(self.second)

    def forward(self, h: Tensor, bonds: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.film(c)[:, None].chunk(2, -1)
        own = F.gelu(h * (1 + scale) + shift)
        sums = torch.einsum("ncij,njw->nicw", bonds, own).flatten(2) / h.shape[1] ** 0.5
        return h + self.dropout(self.second(F.gelu(self.first(torch.cat([own, sums], -1)))))


class GraphValue(nn.Module):
    """Values of graphs.

    Args:
        places: The largest number of nodes `N`.
        features: The number of features of a node.
        prompts: The number of prompts.
        width: The number of features inside.
        depth: The number of sums over neighbours.
        channels: The channels of the adjacency.
        dropout: The share of dropout.
    """

    def __init__(
        self,
        places: int,
        features: int,
        prompts: int = 1,
        width: int = 48,
        depth: int = 3,
        channels: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.places = places
        self.condition = Condition(prompts, width)
        self.node = nn.Linear(features + 1, width)
        self.bonds = Bonds(width, channels)
        self.blocks = nn.ModuleList(Round(width, channels, dropout) for _ in range(depth))
        self.head = Head(2 * width, width, dropout)

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        """Rows `(n, N, N + features + 1)`, times `(n,)` and prompts `(n,)` to values `(n,)`."""
        edges, nodes, mask = x[..., : self.places], x[..., self.places : -1], x[..., -1:]
        c = self.condition(t, prompt)
        size = mask.mean(1, keepdim=True).expand_as(mask)
        h = self.node(torch.cat([nodes, size], -1)) * mask
        bonds = self.bonds(edges, c) * (mask * mask.mT)[:, None]
        for block in self.blocks:
            h = block(h, bonds, c) * mask
        return self.head(torch.cat([h.mean(1), h.masked_fill(mask == 0, -1e4).amax(1)], 1), c)
