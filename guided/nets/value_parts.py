"""What the networks of learned values are made of."""

__all__ = ["Block", "Condition", "Head", "zero"]

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 5


class Condition(nn.Module):
    """Features of the time, with shape `(n,)`, and of the prompt, with shape `(n,)`, to `(n, width)`."""

    def __init__(self, prompts: int, width: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1 + 2 * FREQUENCIES, width), nn.GELU(), nn.Linear(width, width))
        self.prompt = nn.Embedding(prompts, width) if prompts > 1 else None

    def forward(self, t: Tensor, prompt: Tensor) -> Tensor:
        angles = math.pi * t[:, None] * 2.0 ** torch.arange(FREQUENCIES, device=t.device)
        c = self.time(torch.cat([t[:, None], angles.sin(), angles.cos()], dim=1))
        return c if self.prompt is None else c + self.prompt(prompt)


class Head(nn.Module):
    """Features `(n, features)` and the condition `(n, width)` to `(n,)`; zero at the start."""

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(features + width, 2 * width)
        self.out = nn.Linear(2 * width, 1)
        zero(self.out)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        return self.out(F.gelu(self.hidden(torch.cat([self.dropout(h), c], dim=1))))[:, 0]


class Block(nn.Module):
    """A residual block, scaled and shifted by the condition; the identity at the start.

    Args:
        first: Its layer that mixes positions.
        second: Its layer back to the residual stream.
        width: The number of channels.
        dropout: The share of dropout.
    """

    def __init__(self, first: nn.Module, second: nn.Linear | nn.Conv1d | nn.Conv2d, width: int, dropout: float) -> None:
        super().__init__()
        self.film = nn.Linear(width, 2 * width)
        self.first, self.second = first, second
        self.dropout = nn.Dropout(dropout)
        zero(self.film)
        zero(self.second)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.film(c).view(len(c), 2, -1, *[1] * (h.ndim - 2)).unbind(1)
        return h + self.dropout(self.second(F.gelu(self.first(F.gelu(h * (1 + scale) + shift)))))


def zero(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> None:
    """Sets the weights of a layer to 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
