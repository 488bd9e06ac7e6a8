"""What the tests of values share: the enumerable chain with a table for a network, and small conditional DNA."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.core.prompting import Prompting
from tests.toys.chains import Chain

CHAIN = Chain()
REWARD = torch.rand(len(CHAIN.states), generator=torch.Generator().manual_seed(5)).double()


def chain_reward(rows: Tensor) -> Tensor:
    return REWARD[CHAIN.index(rows)]


class Table(nn.Module):
    """A number for each state at each step: it can be any function of them, so that only the regression errs."""

    def __init__(self, event: tuple[int, ...], tokens: int, prompts: int) -> None:
        super().__init__()
        assert (event, tokens, prompts) == ((CHAIN.L,), CHAIN.V + 1, 1)
        self.table = nn.Parameter(torch.zeros(CHAIN.K, len(CHAIN.states)))

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor) -> Tensor:
        return self.table[((1 - t) * CHAIN.K).round().long(), CHAIN.index(x)]


def occupancy() -> list[Tensor]:
    """The law of x_k over all states, for k = 0..K-1."""
    p = torch.zeros(len(CHAIN.states), dtype=torch.float64)
    p[-1] = 1.0
    laws = [p]
    for k in range(CHAIN.K - 1):
        laws.append(laws[-1] @ CHAIN.transition(k))
    return laws


def exact(target: str, alpha: float) -> list[Tensor]:
    """The exact value of every state at every step."""
    if target != "mean":
        return CHAIN.soft_values(REWARD, alpha)
    values = [REWARD]
    for k in reversed(range(CHAIN.K)):
        values.append(CHAIN.transition(k) @ values[-1])
    return values[::-1]


BASES = {"AT": [0.4, 0.1, 0.1, 0.4], "GC": [0.1, 0.4, 0.4, 0.1], "": [0.25] * 4}


def dna(L: int = 12, K: int = 4, **options: object) -> Diffusion:
    """Independent letters, richer in those of the prompt."""

    def condition(prompts: Sequence[str]) -> dict[str, Tensor]:
        unknown = [prompt for prompt in prompts if prompt not in BASES]
        if unknown:
            raise ValueError(f"unknown prompt {unknown[0]!r}")
        return {"p": torch.tensor([BASES[prompt] for prompt in prompts])}

    def denoiser(x: Tensor, t: Tensor, p: Tensor) -> Tensor:
        return p.log()[:, None].expand(*x.shape, 4)

    def decode(x: Tensor) -> list[str]:
        return ["".join("ACGT"[i] for i in row) for row in x.tolist()]

    given = {"codec": Codec(decode), "prompting": Prompting(condition), "timed": False, "identity": "dna", **options}
    return Diffusion(denoiser, Masked(L, 4, K), **given)  # type: ignore[arg-type]


def gc(samples: Sequence[str]) -> list[float]:
    """The share of G and C."""
    return [(s.count("G") + s.count("C")) / len(s) for s in samples]
