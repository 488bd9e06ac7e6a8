r"""The score networks of GDSS, under their published key names: one of the nodes, one of the adjacency.

A graph has `N` places for nodes, of which the first `n` are taken. Its adjacency is a channel of bond orders, and its
powers are further channels. A graph convolution of a channel :math:`A`, with ones on its diagonal and degrees
:math:`D = \max(1, A \mathbf{1})`, is :math:`D^{-1/2} A D^{-1/2} X W + b`. Attention makes a new channel of each old one
out of two convolutions, :math:`\tanh(Q K^\top / \sqrt d)`, the mean over heads: there is no softmax.

Adjacencies are symmetric, and no diagonal reaches a score. So what is computed for pairs of nodes is computed for those
that are there, once for `(i, j)` and `(j, i)`: a sixth of all entries for molecules of 23 atoms among 38 places.

References:
    | Score-based Generative Modeling of Graphs via the System of Stochastic Differential Equations (Jo et al., 2022)
    | https://arxiv.org/abs/2202.02514
"""

__all__ = ["GraphScores", "ScoreNetworkA", "ScoreNetworkX", "ScoreNetworkXAttention"]

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

TOGETHER = 32  # graphs that are computed at a time
TOGETHER_ELSEWHERE = 512  # on other devices than a CPU, which wait for each part


class Pairs:
    """The pairs `i < j` of nodes that are there, `P` of them in all graphs.

    Args:
        flags: 1 for nodes that are there, else 0, with shape `(n, N)`.
    """

    def __init__(self, flags: Tensor) -> None:
        self.n, self.N = flags.shape
        there = flags > 0.5
        self.b, self.i, self.j = (there[:, :, None] & there[:, None, :]).triu(1).nonzero().unbind(1)

    def pick(self, dense: Tensor) -> Tensor:
        """Channels `(n, c, N, N)` at the pairs, with shape `(P, c)`."""
        return dense[self.b, :, self.i, self.j]

    def pick_both(self, dense: Tensor) -> Tensor:
        """The means of channels at the pairs `(i, j)` and `(j, i)`, with shape `(P, c)`."""
        return (dense[self.b, :, self.i, self.j] + dense[self.b, :, self.j, self.i]) / 2

    def spread(self, values: Tensor, diagonal: float = 0.0) -> Tensor:
        """Values `(P, c)` as symmetric channels, with shape `(n, c, N, N)`; 0 elsewhere, but on the diagonal."""
        dense = values.new_zeros(self.n, values.shape[1], self.N, self.N)
        dense[self.b, :, self.i, self.j] = values
        dense[self.b, :, self.j, self.i] = values
        dense.diagonal(dim1=-2, dim2=-1).fill_(diagonal)
        return dense


class Perceptron(nn.Module):
    """Linear maps with ELU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int) -> None:
        super().__init__()
        sizes = [inputs, *[hidden] * (layers - 1), outputs]
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))

    def forward(self, h: Tensor) -> Tensor:
        for linear in self.linears[:-1]:
            h = F.elu(linear(h), inplace=not torch.is_grad_enabled())
        return self.linears[-1](h)


class Convolution(nn.Module):
    """The weights of a graph convolution; `weight` maps rows, with shape `(inputs, outputs)`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)


class Attention(nn.Module):
    """The three convolutions of one channel."""

    def __init__(self, inputs: int, attention: int, outputs: int) -> None:
        super().__init__()
        self.gnn_q = Convolution(inputs, attention)
        self.gnn_k = Convolution(inputs, attention)
        self.gnn_v = Convolution(inputs, outputs)

    @property
    def parts(self) -> tuple[Convolution, Convolution, Convolution]:
        return self.gnn_q, self.gnn_k, self.gnn_v


class AttentionLayer(nn.Module):
    """Maps node features `(n, N, inputs)` and channels at pairs, `(P, c)`, to new ones.

    Args:
        inputs: The features of a node.
        attention: The width of queries and keys, of all heads together.
        outputs: The new features of a node.
        channels: The channels, and the new channels.
        heads: The number of heads.
        linears: The number of linear maps of the perceptron for pairs.
    """

    def __init__(
        self, inputs: int, attention: int, outputs: int, channels: tuple[int, int], heads: int, linears: int
    ) -> None:
        super().__init__()
        old, new = channels
        hidden = 2 * max(old, new)
        self.attention, self.outputs, self.head = attention, outputs, max(1, attention // heads)
        self.attn = nn.ModuleList(Attention(inputs, attention, outputs) for _ in range(old))
        self.mlp = Perceptron(2 * old, hidden, new, linears)
        self.multi_channel = Perceptron(old * outputs, hidden, outputs, 2)

    def forward(self, x: Tensor, edges: Tensor, flags: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """The new features, and the new channels at the pairs, with shape `(P, new)`."""
        query, key, value = self._convolved(x, pairs.spread(edges, diagonal=1.0))
        new = torch.cat([pairs.pick_both(self._attention(query, key)), edges], 1)
        h = self.multi_channel(rearrange(value, "n c i d -> n i (c d)"))
        return torch.tanh(h * flags[..., None]), 2 * self.mlp(new)  # a pair's own value and its mirror's

    def _convolved(self, x: Tensor, adj: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of all channels, each with shape `(n, c, N, *)`."""
        parts = [part for attention in cast("Iterable[Attention]", self.attn) for part in attention.parts]
        c = len(self.attn)
        weight = rearrange(torch.cat([part.weight for part in parts], 1), "d (c e) -> c d e", c=c)
        bias = rearrange(torch.cat([part.bias for part in parts]), "(c e) -> c 1 e", c=c)
        h = averaged(adj, x[:, None]) @ weight + bias
        return h.split([self.attention, self.attention, self.outputs], -1)

    def _attention(self, query: Tensor, key: Tensor) -> Tensor:
        query = rearrange(query / self.outputs**0.5, "n c i (h d) -> n c h i d", d=self.head)
        key = rearrange(key, "n c i (h d) -> n c h d i", d=self.head)
        return torch.tanh_(query @ key).mean(2)


class ScoreNetworkX(nn.Module):
    """The nodes' network without attention: convolutions of the adjacency itself.

    Args:
        features: The number of kinds of atoms.
        depth: The number of convolutions.
        width: Their outputs.
    """

    def __init__(self, features: int, depth: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Convolution(width if i else features, width) for i in range(depth))
        wide = features + depth * width
        self.final = Perceptron(wide, 2 * wide, features, 3)

    def forward(self, x: Tensor, adj: Tensor, flags: Tensor, pairs: Pairs) -> Tensor:
        """`(n, N, features)` and `(n, N, N)` to `(n, N, features)`."""
        a, stages = adj + torch.eye(adj.shape[-1], dtype=adj.dtype, device=adj.device), [x]
        for layer in cast("Iterable[Convolution]", self.layers):
            stages.append(torch.tanh(averaged(a, stages[-1]) @ layer.weight + layer.bias))
        return self.final(torch.cat(stages, -1)) * flags[..., None]


class ScoreNetworkXAttention(nn.Module):
    """The nodes' network with attention (`ScoreNetworkX_GMH`).

    Args:
        features: The number of kinds of atoms.
        depth: The number of layers.
        width: The features that a layer makes.
        channels: The channels at first, between layers, and at last.
        attention: The width of queries and keys after the first layer.
        heads: The number of heads.
        linears: The number of linear maps of the perceptrons for pairs.
    """

    def __init__(
        self,
        features: int,
        depth: int,
        width: int,
        channels: tuple[int, int, int],
        attention: int,
        heads: int,
        linears: int,
    ) -> None:
        super().__init__()
        self.powers = channels[0]
        self.layers = attention_layers(features, depth, width, channels, attention, heads, linears)
        wide = features + depth * width
        self.final = Perceptron(wide, 2 * wide, features, 3)

    def forward(self, x: Tensor, adj: Tensor, flags: Tensor, pairs: Pairs) -> Tensor:
        """`(n, N, features)` and `(n, N, N)` to `(n, N, features)`."""
        edges, stages = pairs.pick(powers(adj, self.powers)), [x]
        for layer in self.layers:
            x, edges = layer(x, edges, flags, pairs)
            x = torch.tanh(x)
            stages.append(x)
        return self.final(torch.cat(stages, -1)) * flags[..., None]


class ScoreNetworkA(nn.Module):
    """The adjacency's network; the arguments are those of :class:`ScoreNetworkXAttention`."""

    def __init__(
        self,
        features: int,
        depth: int,
        width: int,
        channels: tuple[int, int, int],
        attention: int,
        heads: int,
        linears: int,
    ) -> None:
        super().__init__()
        self.powers = channels[0]
        self.layers = attention_layers(features, depth, width, channels, attention, heads, linears)
        wide = channels[0] + channels[1] * (depth - 1) + channels[2]
        self.final = Perceptron(wide, 2 * wide, 1, 3)

    def forward(self, x: Tensor, adj: Tensor, flags: Tensor, pairs: Pairs) -> Tensor:
        """`(n, N, features)` and `(n, N, N)` to `(n, N, N)`, symmetric with zeros on the diagonal."""
        stages = [pairs.pick(powers(adj, self.powers))]
        for layer in self.layers:
            x, edges = layer(x, stages[-1], flags, pairs)
            stages.append(edges)
        return pairs.spread(self.final(torch.cat(stages, -1)))[:, 0]


class GraphScores(nn.Module):
    """Both networks, as one module with the keys `x.*` and `adj.*`."""

    def __init__(self, x: nn.Module, adj: nn.Module) -> None:
        super().__init__()
        self.x, self.adj = x, adj

    def forward(self, x: Tensor, adj: Tensor, flags: Tensor) -> tuple[Tensor, Tensor]:
        """The raw outputs for nodes `(n, N, features)` and adjacency `(n, N, N)` of graphs with `flags`, `(n, N)`.

        Graphs of about the same size are computed together, without the places that none of them needs.
        """
        sizes, order = (flags > 0.5).sum(1).sort()
        new_x, new_adj = torch.zeros_like(x), torch.zeros_like(adj)
        together = TOGETHER if x.device.type == "cpu" else TOGETHER_ELSEWHERE
        largest = [part[-1] for part in sizes.split(together)] if len(x) else []
        for rows, n in zip(order.split(together), torch.stack(largest).tolist() if largest else [], strict=False):
            part = x[rows, :n], adj[rows, :n, :n], flags[rows, :n]
            pairs = Pairs(part[2])
            new_x[rows, :n] = self.x(*part, pairs)
            new_adj[rows, :n, :n] = self.adj(*part, pairs)
        return new_x, new_adj


def attention_layers(
    features: int,
    depth: int,
    width: int,
    channels: tuple[int, int, int],
    attention: int,
    heads: int,
    linears: int,
) -> nn.ModuleList:
    """Layers with the channels at first, between layers, and at last; the first one's attention is of the width."""
    first, hidden, last = channels
    layers = []
    for i in range(depth):
        inside = (hidden if i else first, hidden if i + 1 < depth else last)
        sizes = (width, attention) if i else (features, width)
        layers.append(AttentionLayer(*sizes, width, inside, heads, linears))
    return nn.ModuleList(layers)


def powers(adj: Tensor, count: int) -> Tensor:
    """The powers 1 to `count` of adjacencies `(n, N, N)`, with shape `(n, count, N, N)`."""
    found = [adj]
    while len(found) < count:
        found.append(found[-1] @ adj)
    return torch.stack(found, 1)


def averaged(adj: Tensor, x: Tensor) -> Tensor:
    """Features `(*, N, d)` over adjacencies `(*, N, N)` with ones on their diagonals, by the roots of both degrees."""
    scale = adj.sum(-1, keepdim=True).clamp(min=1).rsqrt()
    return scale * (adj @ (scale * x))
