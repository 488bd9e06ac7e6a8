"""Small models with a network, and numbers for many rows at once."""

__all__ = ["LETTERS", "Numbers", "Vector", "cosine", "tokens", "vectors"]

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from guided.core.codec import Codec
from guided.core.denoiser import Network
from guided.core.diffusion import Diffusion
from guided.core.gaussian import Gaussian, Grid
from guided.core.masked import Masked
from guided.core.prompting import Prompting
from guided.nets.transformer import TokenTransformer

LETTERS = "ACG"
PROMPTS = {"": 0.0, "a": 1.0, "b": -1.0}


class Numbers:
    """Draws as `Streams` does, for rows that need no stream of their own."""

    def __init__(self, n: int, seed: int = 0) -> None:
        self.n, self.generator = n, torch.Generator().manual_seed(seed)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.n, *shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.n, *shape, generator=self.generator)


def cosine(K: int) -> Grid:
    times = [1 - k / K for k in range(K + 1)]
    alphas = [math.cos(math.pi / 2 * 0.999 * t) for t in times]
    return alphas, [math.sqrt(1 - a * a) for a in alphas], times


class Vector(nn.Module):
    """Two numbers, a time and a condition to two numbers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 2)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * p.shape[-1] ** -0.5)

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        given = torch.cat([x, t[:, None], c], 1).to(self.up.weight.dtype)
        return self.down(torch.tanh(self.up(given))).float()


def vectors(seed: int = 0, conditional: bool = True, dtype: torch.dtype = torch.float32, **options: Any) -> Diffusion:
    """A continuous model; its prompts are "a" and "b"."""
    net = Vector(seed).to(dtype).eval().requires_grad_(False)

    def around(net: nn.Module) -> Any:
        def denoiser(x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
            return net(x, t, torch.zeros(len(x), 1) if c is None else c)

        return denoiser

    def condition(prompts: Sequence[Any]) -> dict[str, Tensor]:
        return {"c": torch.tensor([[PROMPTS[p]] for p in prompts])}

    options = {"name": f"vectors {seed}", "identity": f"vectors {seed}", **options}
    return Diffusion(
        around(net),
        Gaussian((2,), *cosine(4), eta=1.0, grid=cosine),
        prompting=Prompting(condition, guidance=2.0) if conditional else Prompting(),
        network=Network(net, around),
        **options,
    )


def tokens(seed: int = 0, **options: Any) -> Diffusion:
    """An unconditional masked model of four letters."""
    torch.manual_seed(seed)
    net = TokenTransformer(len(LETTERS), 4, width=8, depth=1, heads=2)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    net.eval().requires_grad_(False)

    def around(net: nn.Module) -> Any:
        return lambda x, t: net(x).float().log_softmax(-1)

    options = {"name": f"tokens {seed}", "identity": f"tokens {seed}", "timed": False, **options}
    return Diffusion(
        around(net),
        Masked(4, len(LETTERS), steps=4),
        Codec(lambda x: ["".join(LETTERS[i] for i in row) for row in x.tolist()]),
        network=Network(net, around),
        **options,
    )
