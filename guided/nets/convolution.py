r"""A residual convolutional network from tokens, and a label, to log-probabilities of clean tokens.

Nucleotides need no learned vocabulary, and what matters is local: a motif of 6 to 20 positions may start anywhere.
Convolutions learn that from fewer sequences than attention. Like :class:`guided.nets.transformer.TokenTransformer`
the network is not given the time.

References:
    | Dirichlet Flow Matching with Applications to DNA Sequence Design (Stark et al., 2024), for the dilated stack
    | https://arxiv.org/abs/2402.05841
"""

__all__ = ["TokenConvolution"]

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

LAST = torch.channels_last
FLAT = 8.0  # where tanh(sqrt(2 / pi) (h + .044715 h^3)) is 1 to the last bit, in double precision too


class Block(nn.Module):
    """A normalised, dilated convolution that is shifted and scaled by the label, on a residual stream."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.GroupNorm(1, width)
        self.film = nn.Linear(width, 2 * width)
        self.convolution = nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, h: Tensor, c: Tensor, layout: torch.memory_format) -> Tensor:
        """Rows `(n, width, 1, L)`, channels last, and labels `(n, width)`."""
        shift, scale = self.film(c)[..., None, None].chunk(2, dim=1)
        h_normed = normalize(h, self.norm, 1 + scale, shift)
        update = gelu(convolve(h_normed, self.convolution, layout))
        return h + (F.dropout(update, self.dropout) if self.dropout and self.training else update)


def gelu(h: Tensor) -> Tensor:
    """The GELU by tanh, which beyond 8 is `h` or 0 to the last bit: a CPU, whose tanh takes 3 to 13 times as long where
    it ends in 1, is not asked for it there. Most of the numbers of the DNA model lie there.
    """
    if h.device.type != "cpu":
        return F.gelu(h, approximate="tanh")
    return torch.maximum(F.gelu(h.clamp(-FLAT, FLAT), approximate="tanh"), F.threshold(h, FLAT, -FLAT))


def normalize(h: Tensor, norm: nn.GroupNorm, scale: Tensor | float = 1.0, shift: Tensor | float = 0.0) -> Tensor:
    """`norm(h) * scale + shift` for a norm of one group, in two passes over the rows `(n, C, 1, L)`."""
    rows = rearrange(h, "n c 1 l -> n (l c)")  # as they lie in memory
    rows = F.layer_norm(rows, rows.shape[1:], eps=norm.eps)
    h = rearrange(rows, "n (l c) -> n c 1 l", c=h.shape[1])
    weight, bias = norm.weight[:, None, None], norm.bias[:, None, None]
    return torch.addcmul((bias * scale + shift).to(h), h, (weight * scale).to(h))


def convolve(h: Tensor, layer: nn.Conv1d, layout: torch.memory_format = LAST) -> Tensor:
    """`layer` on rows `(n, C, 1, L)`, as a two-dimensional convolution with channels last, which on a CPU takes half
    the time of a one-dimensional one.
    """
    h = h if layout == LAST else h.contiguous()
    weight, padding, dilation = layer.weight[:, :, None], (0, int(layer.padding[0])), (1, layer.dilation[0])
    return F.conv2d(h, weight.to(memory_format=layout), layer.bias, 1, padding, dilation)


class TokenConvolution(nn.Module):
    """Logits of the clean token at every position.

    Args:
        vocabulary: The number of tokens `V`; token `V` is the mask.
        labels: The number of labels.
        width: The number of channels.
        kernel: The width of the kernels, odd.
        dilations: The dilation of each block.
        dropout: The share of a block's outputs that are set to zero in training.

    Attributes:
        layout: How convolutions have rows and kernels in memory, `torch.channels_last` or `torch.contiguous_format`.
    """

    layout = LAST

    def __init__(
        self,
        vocabulary: int,
        labels: int,
        width: int = 96,
        kernel: int = 7,
        dilations: Sequence[int] = (1, 2, 4, 8),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary + 1, width)
        self.label = nn.Embedding(labels, width)
        self.edge = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.blocks = nn.ModuleList(Block(width, kernel, dilation, dropout) for dilation in dilations)
        self.norm = nn.GroupNorm(1, width)
        self.head = nn.Conv1d(width, vocabulary, 1)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Maps tokens, with shape `(n, L)`, and labels, with shape `(n,)`, to logits, with shape `(n, L, V)`."""
        c = F.silu(self.label(label))
        h = rearrange(self.token(x), "n l c -> n c 1 l").to(memory_format=LAST)
        h = convolve(h, self.edge, self.layout)
        for block in self.blocks:
            h = block(h, c, self.layout)
        return rearrange(convolve(normalize(h, self.norm), self.head, self.layout), "n v 1 l -> n l v")
