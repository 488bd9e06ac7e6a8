r"""The masked process in blocks: text is revealed block after block, and within a block by the network's confidence.

A step of a particle, of the block that it is at: a token :math:`v_i` is drawn at each position from the network's
distribution :math:`p_i` (at a temperature, and cut to the likeliest), with the confidence :math:`c_i = p_i(v_i)`. Of
the masked positions those with :math:`c_i > \tau` are revealed if they are at least :math:`n_j`, the share of the
block's j-th step, and otherwise the :math:`n_j` most confident. A revealed token changes where another one is drawn
with a confidence above that of edits. Draws are independent of each other, and which of them count follows from them:
so candidates of a step are independent draws of one law. At temperature 0 tokens are the likeliest, and all candidates
are equal.

The step within the run is not enough to know where a particle is: blocks end when they are filled, and with edits when
no token changes any more. So a row ends with four numbers: how many tokens of the prompt are in the first block, the
number of the block, and the steps since it began and since it was filled.

References:
    | Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models (Arriola et al., 2025)
    | https://arxiv.org/abs/2503.09573

    | LLaDA2.0: Scaling Up Diffusion Language Models to 100B (Bie et al., 2025)
    | https://arxiv.org/abs/2512.15745
"""

__all__ = ["Blocks", "Commits"]

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from guided.core.batching import distinct
from guided.core.process import check_steps
from guided.core.random import Streams
from guided.errors import GuidedError

COLUMNS = 4  # of a row, after its tokens: prompt, block, steps, edits
CHUNK = 2**24  # the numbers of the network's output that are sorted and summed at a time
LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Commits:
    """How tokens of a block are drawn, and which of them count.

    Args:
        temperature: That of the tokens' distribution; 0 for the likeliest token.
        top_k: How many of the likeliest tokens can be drawn; 0 for all.
        top_p: The probability of the likeliest tokens that can be drawn, in (0, 1].
        threshold: The confidence above which masked tokens are revealed; above 1 for the share of each step only.
        editing: The confidence above which revealed tokens change; 0 for never.
        after: How many steps a filled block may take, as long as tokens change.
        end: The token that ends a text; None for none.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    threshold: float = 0.7
    editing: float = 0.0
    after: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Blocks:
    """Blocks of masked tokens; the network predicts the block that a row is at, with shape `(n, block, V)`.

    Args:
        length: The number of tokens of a text, `L`.
        vocabulary: The number of tokens `V`; token `V` is the mask.
        block: The number of tokens of a block.
        refinements: The number of steps in which a block is filled, at most.
        commits: How tokens are drawn, and which of them count.
        whole: Whether the network predicts all tokens, with shape `(n, size, V)`, so that look-aheads are filled to
            the end and not just to that of the block.
        steps: The number of steps `K`; 0 for as many as a text can take. A text that takes fewer waits for the end.

    Raises:
        GuidedError: A number is out of range, or the steps are too few.
    """

    length: int
    vocabulary: int
    block: int
    refinements: int = 32
    commits: Commits = Commits()
    whole: bool = False
    steps: int = 0

    predicts = "log-probabilities of the tokens of a block without the mask"
    remedy = "at temperature 0 tokens are the likeliest; give a temperature, as pipe_args={'temperature': 1.0}"

    def __post_init__(self) -> None:
        for name in ("length", "vocabulary", "block", "refinements"):
            if getattr(self, name) < 1:
                raise GuidedError(f"{name} is {getattr(self, name)}; it must be at least 1")
        rule = self.commits
        if not (0 <= rule.temperature < math.inf and 0 < rule.top_p <= 1):
            raise GuidedError(
                f"temperature is {rule.temperature} and top_p {rule.top_p}; the one must be at least 0 and finite, "
                "the other above 0 and at most 1"
            )
        least = self.most_blocks * self.each
        object.__setattr__(self, "steps", check_steps(self.steps or least))
        if self.steps < least:
            raise GuidedError(f"steps is {self.steps}; {self.most_blocks} blocks may take {least}")

    @property
    def size(self) -> int:
        """The tokens of a row: those of the text, and those that the last block has after it."""
        return self.length + self.block - 1

    @property
    def most_blocks(self) -> int:
        """The number of blocks if the prompt leaves as little room in the first as it can."""
        return -(-(self.length + self.block - 1) // self.block)

    @property
    def each(self) -> int:
        """The most steps of a block."""
        return min(self.refinements, self.block) + self.commits.after

    @property
    def fixed(self) -> Tensor | None:
        return None

    @property
    def event(self) -> tuple[int, ...]:
        return (self.size + COLUMNS,)

    @property
    def tokens(self) -> int:
        return self.vocabulary + 1

    @property
    def mask(self) -> int:
        return self.vocabulary

    @property
    def output(self) -> tuple[int, ...]:
        return (self.size if self.whole else self.block, self.vocabulary)

    @property
    def distribution(self) -> dict[str, Any]:
        sizes = {name: getattr(self, name) for name in ("length", "block", "refinements", "whole")}
        return {**sizes, **asdict(self.commits)}

    def stochastic(self, k: int) -> bool:
        return self.commits.temperature > 0

    def time(self, k: int) -> float:
        return 1 - k / self.steps

    def spans(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first position of each row's block, and that after its last, `(*, event)` to `(*)`: in a text that is
        finished those of the last block.
        """
        offset, block = x[..., self.size], x[..., self.size + 1]
        stop = (torch.minimum(block, self._blocks(offset) - 1) + 1) * self.block - offset
        return (stop - self.block).clamp(min=0), stop

    def finished(self, x: Tensor) -> Tensor:
        """Which rows are finished, `(*, event)` to `(*)`."""
        return x[..., self.size + 1] >= self._blocks(x[..., self.size])

    def placed(self, x: Tensor, prompt: Tensor) -> Tensor:
        """Particles `(B, N, event)` at the end of prompts of so many tokens, `(B,)`."""
        x = x.clone()
        x[..., self.size] = (prompt.to(x.device) % self.block)[:, None]
        return x

    def prior(self, N: int, streams: Streams) -> Tensor:
        x = torch.zeros((len(streams), N, *self.event), dtype=torch.long, device=streams.device)
        x[..., : self.size] = self.mask
        return x

    def propose(self, x: Tensor, y: Tensor, k: int, M: int, streams: Streams) -> Tensor:
        u = streams.uniform(x.shape[1], M, self.block)
        token, confidence = (part.flatten(0, 2) for part in self._drawn(self._of_block(x, y), u, self._open(x)))
        rows = x.repeat_interleave(M, 1)
        return self._moved(rows.flatten(0, 1), token, confidence).view_as(rows)

    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        token = torch.zeros(y.shape[:-1], dtype=torch.long, device=y.device)
        for part in self._hidden(x).nonzero().split(max(1, CHUNK // self.vocabulary)):
            place = part.unbind(1)
            token[place] = y[place].argmax(-1)
        return self._filled(x, token)

    def draw(self, x: Tensor, y: Tensor, draws: int, streams: Streams) -> Tensor:
        u = streams.uniform(x.shape[1], draws, y.shape[-2])
        rule = self if self.commits.temperature else replace(self, commits=replace(self.commits, temperature=1.0))
        token, _ = rule._drawn(y, u, self._hidden(x))
        return self._filled(x.repeat_interleave(draws, 1), token.flatten(1, 2))

    def noise(self, x: Tensor, k: int, streams: Streams) -> Tensor:
        """Masks what comes after the block that step `k` is at, and a random part of that block.

        A text that ended counts as one that goes on with ends: the shares of the steps that are left fill its block.
        """
        u = streams.uniform(x.shape[1], self.size)
        offset, (number, j) = x[..., self.size], divmod(k, self.each)
        own = x[..., : self.size]
        own = own if self.commits.end is None else torch.where(own == self.mask, self.commits.end, own)
        block = torch.full_like(offset, number)
        at = torch.arange(self.size, device=x.device) + offset[..., None]  # counted from the first block's begin
        inside, later = at // self.block == number, at // self.block > number
        rank = torch.where(inside, u, torch.inf).argsort(-1).argsort(-1)
        masked = later | (inside & (rank >= sum(map(self._share, range(j)))))
        tokens = torch.where(masked, self.mask, own)
        filled = ~(masked & inside).any(-1)
        edits = torch.where(filled, max(0, j - min(self.refinements, self.block)), 0)
        ends = (filled & (self.commits.after == 0)) | (number >= self._blocks(offset))
        columns = [offset, block + ends, torch.where(filled | ends, 0, j), edits]
        noised = torch.cat([tokens, torch.stack(columns, -1)], -1)
        over = self._over(tokens, inside | later) | (block >= self._blocks(offset))
        return torch.where(over[..., None], x, noised)

    def remask(self, x: Tensor, where: Tensor) -> Tensor:
        raise GuidedError("text is drawn block after block: single tokens cannot be masked again")

    def distinct(self, x: Tensor, group: Tensor | None = None, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return distinct(x, group, among)

    def changed(self, x: Tensor, parents: Tensor) -> Tensor:
        return (x != parents).flatten(1).any(1)

    def with_steps(self, K: int) -> "Blocks":
        """The same in `K` steps: as many to fill a block as that leaves, where it may take all its edits."""
        least = self.most_blocks * (1 + self.commits.after)
        if check_steps(K) < least:
            raise GuidedError(f"steps is {K}; {self.most_blocks} blocks take at least {least}, one or more for each")
        return replace(self, refinements=K // self.most_blocks - self.commits.after, steps=K)

    def strided(self, k: int, steps: int, drawn: bool = True) -> "Blocks":
        raise GuidedError("the steps of text cannot be made longer: each reveals its share of a block")

    def pinned(self, fixed: Tensor) -> "Blocks":
        raise GuidedError("text has no pinned tokens; give a prompt to begin with")

    def select(self, requests: list[int]) -> "Blocks":
        return self

    def _blocks(self, offset: Tensor) -> Tensor:
        """The number of blocks after prompts that fill so many positions of the first."""
        return (offset + self.length + self.block - 1) // self.block

    def _share(self, step: int) -> int:
        """The number of tokens that a block's step reveals at least."""
        return self.block // self.refinements + (step < self.block % self.refinements)

    def _of_block(self, x: Tensor, y: Tensor) -> Tensor:
        """The outputs of rows' blocks, with shape `(*, block, V)`."""
        if not self.whole:
            return y
        place = self._places(x).clamp(max=self.size - 1)[..., None]
        return y.gather(-2, place.expand(*x.shape[:-1], self.block, self.vocabulary))

    def _places(self, x: Tensor) -> Tensor:
        """The positions of rows' blocks, `(*, event)` to `(*, block)`; the first may be shorter, and goes on then."""
        return self.spans(x)[0][..., None] + torch.arange(self.block, device=x.device)

    def _hidden(self, x: Tensor) -> Tensor:
        """The masked positions that the network predicts and that will be filled, `(*, event)` to `(*, i)`."""
        if not self.whole:
            return replace(self, commits=replace(self.commits, editing=0.0))._open(x)
        return (x[..., : self.size] == self.mask) & ~self.finished(x)[..., None]

    def _open(self, x: Tensor) -> Tensor:
        """The positions of rows' blocks whose tokens may change, `(*, event)` to `(*, block)`."""
        place = self._places(x)
        valid = (place < self.spans(x)[1][..., None]) & ~self.finished(x)[..., None]
        masked = x.gather(-1, place.clamp(max=self.size - 1)) == self.mask
        return valid if self.commits.editing else valid & masked

    def _drawn(self, y: Tensor, u: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens by uniform numbers, and their probabilities: `(*, i, V)` and `(*, M, i)` to `(*, M, i)` each.

        They are 0 at the positions that are left out of `where`, with shape `(*, i)`: most of a block, after a while.
        """
        u = u.transpose(-1, -2)
        token, confidence = torch.zeros_like(u, dtype=torch.long), torch.zeros_like(u)
        for part in where.nonzero().split(max(1, CHUNK // self.vocabulary)):
            place = part.unbind(1)
            token[place], confidence[place] = self._tokens(y[place], u[place])
        return token.transpose(-1, -2), confidence.transpose(-1, -2)

    def _tokens(self, y: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The same for positions in a row: `(n, V)` and `(n, M)` to `(n, M)` each."""
        if y.isnan().any() or y.amax(-1).isneginf().any():
            raise GuidedError("the network returned nan, or ruled every token out")
        if not self.commits.temperature:
            best = y.argmax(-1, keepdim=True).expand_as(u)
            return best, y.softmax(-1).gather(-1, best)
        y = self._cut(y / self.commits.temperature)
        edges = (y.double() if y.device.type != "mps" else y).softmax(-1).cumsum(-1)
        total = edges[..., -1:]
        u = torch.minimum(u * total, total.nextafter(torch.zeros_like(total)))  # else u can name an impossible token
        token = torch.searchsorted(edges, u.contiguous(), right=True)
        return token, y.softmax(-1).gather(-1, token)

    def _cut(self, y: Tensor) -> Tensor:
        """Log-probabilities without the tokens that cannot be drawn, `(n, V)`."""
        k, p = self.commits.top_k, self.commits.top_p
        if 0 < k < self.vocabulary:
            y = torch.where(y < y.topk(k, -1).values[..., -1:], LOWEST, y)
        if p < 1:
            ordered, place = y.sort(-1, descending=True)
            mass = ordered.softmax(-1).cumsum(-1)
            out = torch.nn.functional.pad(mass[..., :-1] > p, (1, 0))
            y = y.scatter(-1, place, torch.where(out, LOWEST, ordered))
        return y

    def _moved(self, x: Tensor, token: Tensor, confidence: Tensor) -> Tensor:
        """Rows after a step, `(R, event)`, by drawn tokens of their blocks and their confidence, `(R, block)`."""
        place, (_, stop) = self._places(x), self.spans(x)
        valid = place < stop[:, None]
        place = place.clamp(max=self.size - 1)
        own = x.gather(1, place)
        masked = valid & (own == self.mask)
        shown = self._revealed(masked, confidence, x[:, self.size + 2])
        edited = valid & ~masked & (token != own) & (confidence > self.commits.editing)
        edited &= self.commits.editing > 0
        moves = (shown | edited) & ~self.finished(x)[:, None]
        after = x[:, : self.size].scatter_add(1, place, torch.where(moves, token - own, 0))
        left = (masked & ~shown).any(1)
        columns = self._columns(x, masked.any(1), left, edited.any(1))
        if self.commits.end is not None:
            ended = (moves & (token == self.commits.end)).any(1) & self._over(after, after == self.mask)
            columns[:, 1] = torch.where(ended, self._blocks(columns[:, 0]), columns[:, 1])
        return torch.where(self.finished(x)[:, None], x, torch.cat([after, columns], 1))

    def _revealed(self, masked: Tensor, confidence: Tensor, step: Tensor) -> Tensor:
        """Which masked positions a step reveals, with shape `(R, block)`."""
        base, more = divmod(self.block, self.refinements)
        share = base + (step.clamp(max=self.refinements - 1) < more).long()
        confidence = torch.where(masked, confidence, -torch.inf)
        sure = confidence > self.commits.threshold
        rank = confidence.argsort(dim=1, descending=True, stable=True).argsort(1)
        return torch.where((sure.sum(1) >= share)[:, None], sure, masked & (rank < share[:, None]))

    def _columns(self, x: Tensor, filling: Tensor, left: Tensor, edited: Tensor) -> Tensor:
        """Where rows are after a step, `(R, 4)`: in what was a block with masks, where some are left, that changed."""
        offset, block, step, edits = x[:, self.size :].unbind(1)
        step, edits = step + filling, edits + ~filling
        filled = (step >= self.refinements) | (~left & (self.commits.after == 0))
        ends = torch.where(filling, filled, ~edited | (edits >= self.commits.after))
        return torch.stack([offset, block + ends, torch.where(ends, 0, step), torch.where(ends, 0, edits)], 1)

    def _over(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """Whether an end comes before all that is masked, `(*, size)` to `(*)`."""
        if self.commits.end is None:
            return torch.zeros_like(masked[..., 0])
        ends = (tokens == self.commits.end) & ~masked
        return (ends & (masked.long().cumsum(-1) == 0)).any(-1)

    def _filled(self, x: Tensor, token: Tensor) -> Tensor:
        """Clean rows: masked tokens of rows' blocks, or with `whole` all, are those of `(*, i)`."""
        own, (start, stop) = x[..., : self.size], self.spans(x)
        at = torch.arange(self.size, device=x.device)
        place = at if self.whole else (at - start[..., None]).clamp(0, self.block - 1)
        inside = torch.ones_like(own, dtype=torch.bool) if self.whole else at < stop[..., None]
        filled = inside & (own == self.mask) & ~self.finished(x)[..., None]
        tokens = torch.where(filled, token.gather(-1, place.expand_as(own)), own)
        offset = x[..., self.size :][..., :1]
        done = torch.cat([offset, self._blocks(offset), torch.zeros_like(x[..., -2:])], -1)
        return torch.cat([tokens, done], -1)
