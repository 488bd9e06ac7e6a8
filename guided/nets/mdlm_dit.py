r"""The transformer of masked diffusion language models (MDLM), under its published key names.

Every block shifts, scales and gates its two branches by vectors that depend on the time alone (adaLN). The released
models were trained without time conditioning: they are given sigma = 0, so these vectors are constants.
:meth:`MaskedDiT.embed` computes them, so that a caller can do it once.

References:
    | Simple and Effective Masked Diffusion Language Models (Sahoo et al., 2024)
    | https://arxiv.org/abs/2406.07524

    | Scalable Diffusion Models with Transformers (Peebles & Xie, 2023), adaLN
    | https://arxiv.org/abs/2212.09748

    | RoFormer: Enhanced Transformer with Rotary Position Embedding (Su et al., 2021)
    | https://arxiv.org/abs/2104.09864
"""

__all__ = ["MaskedDiT"]

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from guided.errors import GuidedError

FREQUENCIES = 256


class Norm(nn.Module):
    """Layer normalisation with a weight and no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, h: Tensor) -> Tensor:
        return F.layer_norm(h, self.weight.shape, self.weight)


class Embedding(nn.Module):
    """A vector for each token; the key is `embedding`, not `weight`."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(tokens, width) * width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.embedding)


class TimeEmbedding(nn.Module):
    """Sinusoids of the total noise, cosine first, and a perceptron: `(n,)` to `(n, width)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, sigma: Tensor) -> Tensor:
        half = FREQUENCIES // 2
        frequencies = torch.exp(-math.log(1e4) * torch.arange(half, device=sigma.device) / half)
        angles = sigma[:, None] * frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1))


class Rotary(nn.Module):
    """Angles by which queries and keys are rotated. The frequencies are a buffer, as in checkpoints."""

    inv_freq: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1e4 ** (-torch.arange(0, size, 2) / size))

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """The cosines and sines, with shape `(length, size)`; the frequencies are those of both halves of a head."""
        positions = torch.arange(length, device=self.inv_freq.device)
        angles = torch.outer(positions, self.inv_freq).repeat(1, 2)
        return angles.cos(), angles.sin()


class Block(nn.Module):
    """Attention and perceptron, each behind a gate."""

    def __init__(self, width: int, heads: int, cond: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = Norm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.norm2 = Norm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.adaLN_modulation = nn.Linear(cond, 6 * width)

    def forward(self, h: Tensor, modulation: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation[:, None].chunk(6, -1)
        qkv = self.attn_qkv(_modulate(self.norm1(h), shift1, scale1))
        q, k, v = rearrange(qkv, "n l (three heads c) -> three n heads l c", three=3, heads=self.heads)
        a = F.scaled_dot_product_attention(_rotate(q, cos, sin), _rotate(k, cos, sin), v)
        h = h + gate1 * self.attn_out(rearrange(a, "n heads l c -> n l (heads c)"))
        return h + gate2 * self.mlp(_modulate(self.norm2(h), shift2, scale2))


class Head(nn.Module):
    """The last layer, to logits."""

    def __init__(self, width: int, tokens: int, cond: int) -> None:
        super().__init__()
        self.norm_final = Norm(width)
        self.linear = nn.Linear(width, tokens)
        self.adaLN_modulation = nn.Linear(cond, 2 * width)

    def forward(self, h: Tensor, modulation: Tensor) -> Tensor:
        return self.linear(_modulate(self.norm_final(h), *modulation[:, None].chunk(2, -1)))


class MaskedDiT(nn.Module):
    """Logits of the clean token at every position.

    Args:
        tokens: The number of tokens, the mask included.
        width: The width of the residual stream.
        heads: The number of attention heads; `width / heads` is an even number.
        depth: The number of blocks.
        cond: The width of the time's embedding.
    """

    def __init__(self, tokens: int, width: int = 768, heads: int = 12, depth: int = 12, cond: int = 128) -> None:
        super().__init__()
        if width % heads or width // heads % 2:
            raise GuidedError(f"{heads} heads do not divide a width of {width} into even parts")
        self.vocab_embed = Embedding(tokens, width)
        self.sigma_map = TimeEmbedding(cond)
        self.rotary_emb = Rotary(width // heads)
        self.blocks = nn.ModuleList(Block(width, heads, cond) for _ in range(depth))
        self.output_layer = Head(width, tokens, cond)

    def embed(self, sigma: Tensor) -> list[Tensor]:
        """Shifts, scales and gates of each block, then of the head, at total noise `sigma`, `(n,)`: `(n, *)` each."""
        c = F.silu(self.sigma_map(sigma))
        return [layer.adaLN_modulation(c) for layer in (*self.blocks, self.output_layer)]

    def forward(self, x: Tensor, embedded: Sequence[Tensor]) -> Tensor:
        """Maps tokens, with shape `(n, L)`, to logits, with shape `(n, L, tokens)`, the mask's included.

        Args:
            x: The tokens; `L` is any length.
            embedded: What :meth:`embed` returned, for each row, or one for all rows.
        """
        h = self.vocab_embed(x)
        cos, sin = (part.to(h.dtype) for part in self.rotary_emb(x.shape[1]))
        for block, modulation in zip(self.blocks, embedded[:-1], strict=True):
            h = block(h, modulation, cos, sin)
        return self.output_layer(h, embedded[-1])


def _modulate(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return h * (1 + scale) + shift


def _rotate(h: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates each pair of a head, entry `i` of the first half with entry `i` of the second."""
    left, right = h.chunk(2, -1)
    return h * cos + torch.cat([-right, left], -1) * sin
