"""The network of a pipeline of text as a denoiser: rows go to it with their prompts, up to the end of their block."""

__all__ = ["BlockDenoiser"]

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from guided.adapters.diffusers.text.prompts import Table
from guided.core.blocks import Blocks


@dataclass(frozen=True)
class BlockDenoiser:
    """Rows `(n, event)` to log-probabilities of the tokens of their blocks, with shape `(n, block, V)`.

    The network sees what the pipeline would show it: the prompt, the text so far, and the present block. Rows of one
    such length are evaluated together, so none is filled up. The mask has the probability 0.

    Args:
        network: Maps tokens `(n, W)` to an output with `logits`, `(n, W, V)`.
        table: The prompts.
        process: The process, which knows where blocks are.
        mask: The number of the mask in the network's vocabulary.
    """

    network: nn.Module
    table: Table
    process: Blocks
    mask: int

    @property
    def cost(self) -> int:
        """Network rows for one row: a second one where the rest of the text is predicted."""
        return 2 if self.process.whole else 1

    def around(self, network: nn.Module) -> "BlockDenoiser":
        """The same with another network of the same architecture."""
        return replace(self, network=network)

    def __call__(self, x: Tensor, t: Tensor, prompt: Tensor | None = None) -> Tensor:
        process, (start, stop) = self.process, self.process.spans(x)
        prompts = [self.table.tokens[i] for i in (prompt.tolist() if prompt is not None else [0] * len(x))]
        place = start[:, None] + torch.arange(process.block, device=x.device)
        y = self._asked(x, prompts, stop, place)
        if not process.whole:
            return y
        every = torch.arange(process.size, device=x.device).expand(len(x), -1)
        all_of_it = self._asked(x, prompts, torch.full_like(stop, process.size), every)
        inside = (every >= start[:, None]) & (every < stop[:, None])
        within = (every - start[:, None]).clamp(0, process.block - 1)[..., None]
        return torch.where(inside[..., None], y.gather(1, within.expand_as(all_of_it)), all_of_it)

    def _asked(self, x: Tensor, prompts: Sequence[Tensor], stop: Tensor, place: Tensor) -> Tensor:
        """Log-probabilities at places `(n, i)` of texts that are seen up to `stop`, `(n,)`: `(n, i, V)`."""
        block = self.process.block
        groups: dict[int, list[int]] = {}
        for i, (tokens, end) in enumerate(zip(prompts, stop.tolist(), strict=True)):
            groups.setdefault(-(-(len(tokens) + end) // block) * block, []).append(i)
        if len(groups) == 1:  # no second copy of large outputs
            return self._together(x, prompts, stop, place, next(iter(groups)))
        y = x.new_empty(*place.shape, self.process.vocabulary, dtype=torch.float32)
        for width, rows in groups.items():
            y[rows] = self._together(x[rows], [prompts[i] for i in rows], stop[rows], place[rows], width)
        return y

    def _together(self, x: Tensor, prompts: Sequence[Tensor], stop: Tensor, place: Tensor, width: int) -> Tensor:
        """The same for rows that are seen at one width."""
        process, at = self.process, torch.arange(width, device=x.device)
        before = torch.tensor([len(tokens) for tokens in prompts], dtype=torch.long, device=x.device)
        text = at - before[:, None]  # positions of the text, below 0 those of the prompt
        own = x.gather(1, text.clamp(0, process.size - 1))
        own = torch.where((text < stop[:, None]) & (own != process.mask), own, self.mask)
        first = torch.nn.utils.rnn.pad_sequence([*prompts, at], batch_first=True)[:-1, :width]
        logits = self.network(
            torch.where(text < 0, first, own),
            attention_mask=(text < process.length).long(),
            position_ids=at.expand(len(x), -1),
        ).logits
        place = (before[:, None] + place).clamp(max=width - 1)
        y = logits[torch.arange(len(x), device=x.device)[:, None], place].float()
        y[..., self.mask] = -torch.inf
        return y.log_softmax(-1)
