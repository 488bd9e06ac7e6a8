r"""A bidirectional transformer from tokens to log-probabilities of clean tokens.

It is not given the time: with the absorbing process and the SUBS parametrisation the number of masked tokens already
gives it, so an output stays valid as long as its row does not change.

References:
    | Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024)
    | https://arxiv.org/abs/2406.07524

    | Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data (Ou et al., 2024)
    | https://arxiv.org/abs/2406.03736
"""

__all__ = ["TokenTransformer"]

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def _relu2(h: Tensor) -> Tensor:
    return F.relu(h) * F.relu(h)


def _gelu(h: Tensor) -> Tensor:
    return F.gelu(h, approximate="tanh")


ACTIVATIONS = {"gelu": _gelu, "relu2": _relu2}


class Block(nn.Module):
    """Pre-norm attention and MLP, with normalised queries and keys."""

    def __init__(self, width: int, heads: int, activation: str) -> None:
        super().__init__()
        self.heads, self.activation = heads, ACTIVATIONS[activation]
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm_q = nn.LayerNorm(width // heads)
        self.norm_k = nn.LayerNorm(width // heads)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = rearrange(
            self.qkv(self.norm1(h)), "n l (three heads c) -> three n heads l c", three=3, heads=self.heads
        )
        q, k = self.norm_q(q).to(v), self.norm_k(k).to(v)
        # Written out: at these lengths the backward pass of the fused kernel is slow on a CPU.
        a = ((q @ k.mT) * q.shape[-1] ** -0.5).softmax(-1).to(v) @ v
        h = h + self.out(rearrange(a, "n heads l c -> n l (heads c)"))
        return h + self.down(self.activation(self.up(self.norm2(h))))


class TokenTransformer(nn.Module):
    """Logits of the clean token at every position.

    Args:
        vocabulary: The number of tokens `V`; token `V` is the mask.
        length: The number of positions `L`.
        width: The width of the residual stream.
        depth: The number of blocks.
        heads: The number of attention heads; it divides `width`.
        activation: "gelu", or "relu2", the square of the positive part, which is cheaper to train on a CPU.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        self.vocabulary, self.length = vocabulary, length
        self.token = nn.Embedding(vocabulary + 1, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, activation) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        self.apply(_initialize)

    def forward(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """Maps tokens, with shape `(n, L)`, or fewer positions, to logits, with shape `(n, L, V)`.

        With `places`, whole numbers below `n L` with shape `(k,)`, only those of these tokens, with shape `(k, V)`.
        """
        h = self.token(x) + self.position[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        if places is not None:
            h = h.flatten(0, 1).index_select(0, places)
        return self.head(self.norm(h))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
