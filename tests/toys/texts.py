"""A masked model in blocks whose law is known exactly, by enumeration."""

__all__ = ["BlockChain", "apart"]

import itertools
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from guided.core.blocks import Blocks, Commits
from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from tests.toys.chains import Counting

State = tuple[int, ...]


class Begun(Diffusion):
    """A model whose texts begin after a prompt of as many tokens as it is called after."""

    def start(self, streams: Streams, N: int = 1) -> Particles:
        particles = super().start(streams, N)
        x = self.process.placed(particles.x, torch.full((len(streams),), int(self.name)))  # type: ignore[attr-defined]
        return Particles(self, x, particles.k, streams)


class BlockChain:
    """A random table of conditionals, and the chain that it drives, pushed forward state by state.

    Args:
        commits: How tokens are drawn, and which of them count.
        L: The number of tokens.
        block: The number of tokens of a block.
        refinements: The number of steps of a block.
        prompt: The number of tokens before it.
    """

    V = 2

    def __init__(self, commits: Commits, L: int = 3, block: int = 2, refinements: int = 2, prompt: int = 0) -> None:
        V = self.V
        self.process = Blocks(L, V, block, refinements, commits)
        self.block, self.rule, self.prompt = block, commits, prompt
        generator = torch.Generator().manual_seed(3)
        shape = ((V + 1) ** self.process.size, block, V)
        self.table = (2 * torch.randn(shape, generator=generator)).log_softmax(-1)
        self.kernels: dict[State, dict[State, float]] = {}

    def model(self, **options: Any) -> Diffusion:
        denoiser = Counting(lambda x, t: self.table[self.index(x)])
        return Begun(denoiser, self.process, timed=False, name=str(self.prompt), **options)

    def index(self, x: Tensor) -> Tensor:
        size = self.process.size
        return (x[..., :size] * (self.V + 1) ** torch.arange(size - 1, -1, -1)).sum(-1)

    @property
    def begin(self) -> State:
        return tuple(self.model().start(Streams(0, [0])).x[0, 0].tolist())

    def kernel(self, x: State) -> dict[State, float]:
        """The law of the state after x, by all tokens that can be drawn: plain loops, one position at a time."""
        if x not in self.kernels:
            found: dict[State, float] = defaultdict(float)
            p = (self.table[self.index(torch.tensor(x))].double() / self.rule.temperature).softmax(-1).tolist()
            for tokens in itertools.product(range(self.V), repeat=self.block):
                chance = 1.0
                for row, token in zip(p, tokens, strict=True):
                    chance *= row[token]
                found[self.after(x, tokens, [row[t] for row, t in zip(p, tokens, strict=True)])] += chance
            self.kernels[x] = dict(found)
        return self.kernels[x]

    def after(self, x: State, drawn: State, sure: list[float]) -> State:
        """The state after x if these tokens are drawn with this confidence."""
        size, rule, S = self.process.size, self.rule, self.process.refinements
        text, (offset, block, step, edits) = list(x[:size]), x[size:]
        blocks = -(-(offset + self.process.length) // self.block)
        if block >= blocks:
            return x
        places = [i for i in range(size) if (i + offset) // self.block == block]
        hidden = [i for i in places if text[i] == self.V]
        at = {i: j for j, i in enumerate(places)}
        share = self.block // S + (min(step, S - 1) < self.block % S)
        shown = [i for i in hidden if sure[at[i]] > rule.threshold]
        if len(shown) < share:
            shown = sorted(hidden, key=lambda i: -sure[at[i]])[:share]
        edited = [i for i in places if i not in hidden and drawn[at[i]] != text[i]]
        edited = [i for i in edited if 0 < rule.editing < sure[at[i]]]
        for i in shown + edited:
            text[i] = drawn[at[i]]
        moved = [text[i] for i in shown + edited]
        if hidden:
            step, left = step + 1, len(hidden) > len(shown)
            over = step >= S or (not left and not rule.after)
        else:
            edits += 1
            over = not edited or edits >= rule.after
        if over:
            block, step, edits = block + 1, 0, 0
        if rule.end in moved and self.V not in text[: text.index(rule.end)]:
            block = blocks
        return (*text, offset, block, step, edits)

    def clean(self, x: State) -> State:
        """The tokens of x, with the likeliest in place of what is masked in its block."""
        size = self.process.size
        text, (offset, block) = list(x[:size]), x[size : size + 2]
        if block < -(-(offset + self.process.length) // self.block):
            best = self.table[self.index(torch.tensor(x))].argmax(-1).tolist()
            places = [i for i in range(size) if (i + offset) // self.block == block]
            for i, token in zip(places, best, strict=False):
                text[i] = token if text[i] == self.V else text[i]
        return tuple(text)

    def laws(self) -> list[dict[State, float]]:
        """The law of the state at each step, from 0 to K."""
        laws = [{self.begin: 1.0}]
        for _ in range(self.process.steps):
            new: dict[State, float] = defaultdict(float)
            for x, p in laws[-1].items():
                for y, q in self.kernel(x).items():
                    new[y] += p * q
            laws.append(dict(new))
        return laws

    def soft_values(self, reward: dict[State, float], alpha: float) -> list[dict[State, float]]:
        """E[exp(r(x_K) / alpha) | x_k] for each state that can be reached, for k = 0..K, as alpha times its log."""
        laws = self.laws()
        h = [{x: float(torch.tensor(reward[x] / alpha).double().exp()) for x in laws[-1]}]
        for law in reversed(laws[:-1]):
            h.append({x: sum(q * h[-1][y] for y, q in self.kernel(x).items()) for x in law})
        return [{x: alpha * float(torch.tensor(v).double().log()) for x, v in part.items()} for part in reversed(h)]

    def shares(self, x: Tensor) -> dict[State, float]:
        """The share of each state among particles, with shape `(B, N, event)`."""
        states, counts = x.flatten(0, 1).unique(dim=0, return_counts=True)
        return {tuple(s): c / counts.sum().item() for s, c in zip(states.tolist(), counts.tolist(), strict=True)}


def apart(p: dict[State, float], q: dict[State, float]) -> float:
    """Total variation."""
    return 0.5 * sum(abs(p.get(x, 0.0) - q.get(x, 0.0)) for x in {*p, *q})
