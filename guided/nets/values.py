r"""Networks of learned values: noisy rows, a time in [0, 1] and the number of a prompt to one number a row.

They are evaluated for every candidate at every step, so they are small: a few million multiplications for a row of 200
tokens. They are fitted to a few thousand rewards, so they have dropout, and no normalisation, which made them memorise
the trajectories. The last layer starts at zero, so that a fit starts from the best constant, and so do the residual
blocks.
"""

__all__ = ["ImageValue", "SequenceValue", "VectorValue", "build", "kind_of"]

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guided.errors import GuidedError
from guided.nets.graph_value import GraphValue
from guided.nets.value_parts import Block, Condition, Head


class SequenceValue(nn.Module):
    """Values of token rows: a convolution as long as a motif, the maximum over neighbours, residual blocks with a
    growing receptive field, the mean and the maximum over positions. Positions have learned offsets.

    Args:
        tokens: The number of tokens, the mask included.
        length: The number of positions `L`.
        prompts: The number of prompts.
        width: The number of channels.
        depth: The number of blocks.
        kernel: The length of the first convolution, an odd number.
        pool: The number of neighbours of which the maximum is kept; None for one that leaves at most 32 positions.
        dropout: The share of dropout.
    """

    def __init__(
        self,
        tokens: int,
        length: int,
        prompts: int = 1,
        width: int = 32,
        depth: int = 2,
        kernel: int = 15,
        pool: int | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.pool = pool or math.ceil(length / 32)
        self.token = nn.Embedding(tokens, min(tokens, 32))
        self.stem = nn.Conv1d(self.token.embedding_dim, width, kernel, padding=kernel // 2)
        self.position = nn.Parameter(torch.zeros(width, length))
        self.dropout = nn.Dropout(dropout)
        self.condition = Condition(prompts, width)
        self.blocks = nn.ModuleList(
            Block(
                nn.Conv1d(width, width, 5, padding=2 * 2**i, dilation=2**i), nn.Conv1d(width, width, 1), width, dropout
            )
            for i in range(depth)
        )
        self.head = Head(2 * width, width, dropout)

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        """Tokens `(n, L)`, times `(n,)` and prompts `(n,)` to values `(n,)`."""
        c = self.condition(t, prompt)
        h = F.gelu(self.stem(self.token(x).mT) + self.position)
        h = self.dropout(F.max_pool1d(h, self.pool, ceil_mode=True))
        for block in self.blocks:
            h = block(h, c)
        return self.head(torch.cat([h.mean(2), h.amax(2)], dim=1), c)


class ImageValue(nn.Module):
    """Values of images or latents of any number of channels and any size: residual blocks, halved in between until
    at most 8 x 8 positions are left, the mean over positions.

    Args:
        channels: The number of channels.
        size: Height and width.
        prompts: The number of prompts.
        width: The number of channels inside.
        dropout: The share of dropout.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], prompts: int = 1, width: int = 48, dropout: float = 0.2
    ) -> None:
        super().__init__()
        stride = math.ceil(max(size) / 64)
        self.stem = nn.Conv2d(channels, width, 2 * stride + 1, stride, stride)
        self.condition = Condition(prompts, width)
        halvings = max(0, math.ceil(math.log2(max(size) / stride / 8)))
        self.blocks = nn.ModuleList(
            Block(nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1), width, dropout)
            for _ in range(1 + halvings)
        )
        self.head = Head(width, width, dropout)

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        """Rows `(n, C, H, W)`, times `(n,)` and prompts `(n,)` to values `(n,)`."""
        c = self.condition(t, prompt)
        h = self.stem(x)
        for i, block in enumerate(self.blocks):
            h = block(F.avg_pool2d(h, 2, ceil_mode=True) if i else h, c)
        return self.head(h.mean((2, 3)), c)


class VectorValue(nn.Module):
    """Values of continuous rows of any other shape, taken as flat vectors: a residual multilayer perceptron.

    Args:
        size: The number of entries of a row.
        prompts: The number of prompts.
        width: The width.
        depth: The number of blocks.
        dropout: The share of dropout.
    """

    def __init__(self, size: int, prompts: int = 1, width: int = 64, depth: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.condition = Condition(prompts, width)
        self.stem = nn.Linear(size, width)
        layers = [(nn.Linear(width, width), nn.Linear(width, width)) for _ in range(depth)]
        self.blocks = nn.ModuleList(Block(*pair, width, dropout) for pair in layers)
        self.head = Head(width, width, dropout)

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        """Rows `(n, *event)`, times `(n,)` and prompts `(n,)` to values `(n,)`."""
        c = self.condition(t, prompt)
        h = self.stem(x.flatten(1))
        for block in self.blocks:
            h = block(h, c)
        return self.head(h, c)


def kind_of(event: tuple[int, ...], tokens: int | None, graphs: bool = False) -> str:
    """The `kind` of network for rows of this shape: "graph" for graphs, else "sequence", "image" or "vector"."""
    if graphs:
        return "graph"
    if tokens is not None and len(event) == 1:
        return "sequence"
    return "image" if tokens is None and len(event) == 3 else "vector"


def build(kind: str, event: tuple[int, ...], tokens: int | None, prompts: int, **size: Any) -> nn.Module:
    """A network of a `kind`.

    Args:
        kind: "sequence", "image", "graph" or "vector".
        event: The shape of a row.
        tokens: The number of tokens, the mask included; None for a continuous model.
        prompts: The number of prompts.
        size: The other arguments, such as `width`.

    Raises:
        GuidedError: There is no such `kind`, or it does not take such rows or arguments.
    """
    try:
        if kind == "sequence" and tokens is not None and len(event) == 1:
            return SequenceValue(tokens, event[0], prompts, **size)
        if kind == "image" and tokens is None and len(event) == 3:
            return ImageValue(event[0], (event[1], event[2]), prompts, **size)
        if kind == "graph" and tokens is None and len(event) == 2 and event[1] > event[0] + 1:
            return GraphValue(event[0], event[1] - event[0] - 1, prompts, **size)
        if kind == "vector" and tokens is None:
            return VectorValue(math.prod(event), prompts, **size)
    except TypeError as error:
        raise GuidedError(f"the {kind!r} network of a value does not take {size}: {error}") from error
    what = f"{tokens} tokens" if tokens else "continuous numbers"
    raise GuidedError(
        f"no network {kind!r} for rows of shape {event} of {what}; it is sequence, image, graph or vector"
    )
