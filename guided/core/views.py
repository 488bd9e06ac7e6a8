"""Clean rows in the forms that rewards take, each made once for all rewards that ask for it."""

__all__ = ["EachPrompt", "Views"]

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from guided.core.codec import Codec
from guided.core.monitor import Monitor
from guided.errors import GuidedError


class EachPrompt(Sequence[str]):
    """The prompt of each of `n` rows, as a sequence of texts.

    A reward that stays on a device uses `texts` and `number`; looking at a prompt by its place copies the numbers to
    the host.

    Attributes:
        texts: The different prompts.
        number: Which of them each row has, with shape `(n,)`, on the rows' device.
    """

    def __init__(self, texts: Sequence[str], number: Tensor) -> None:
        self.texts, self.number = tuple(texts), number

    @classmethod
    def of(cls, prompts: Sequence[str], device: torch.device) -> "EachPrompt":
        """The prompts of as many rows."""
        return _numbered(tuple(prompts), device)

    def __len__(self) -> int:
        return len(self.number)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> "EachPrompt": ...

    def __getitem__(self, place: int | slice) -> "str | EachPrompt":
        return self.select(place) if isinstance(place, slice) else self._all[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __deepcopy__(self, memo: object) -> "EachPrompt":
        return EachPrompt(self.texts, self.number.clone())

    def select(self, rows: Tensor | slice) -> "EachPrompt":
        """The prompts of some of the rows."""
        return EachPrompt(self.texts, self.number[rows])

    @cached_property
    def _all(self) -> list[str]:
        return [self.texts[i] for i in self.number.tolist()]


@lru_cache(maxsize=16)
def _numbered(prompts: tuple[str, ...], device: torch.device) -> EachPrompt:
    texts: dict[str, int] = {}
    number = [texts.setdefault(prompt, len(texts)) for prompt in prompts]
    return EachPrompt(tuple(texts), torch.tensor(number, dtype=torch.long, device="cpu").to(device))


class Views:
    """Clean rows as "samples", "tokens", "pixels" and "latents" (:class:`guided.core.codec.Codec`).

    `views["pixels"]` is made when it is first asked for, and kept.

    Args:
        rows: The clean rows, with shape `(n, *event)`.
        codec: What makes the views.
        preview: Whether they are look-aheads, which a model may decode in a cheaper way.
        monitor: Where the time of decoding is counted.
        tokens: The number of tokens that rows are made of; None where rows are real numbers, and never equal.
    """

    def __init__(
        self,
        rows: Tensor,
        codec: Codec,
        preview: bool = False,
        monitor: Monitor | None = None,
        tokens: int | None = None,
    ) -> None:
        self.rows, self.codec, self.preview = rows, codec, preview
        self.monitor, self.tokens = monitor or Monitor(), tokens
        self._made: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, view: str) -> Any:
        """One of the views: a list of `n` samples, or a tensor with `n` rows on their device.

        Raises:
            GuidedError: The model has no such view, or it has another number of samples.
        """
        if view not in self._made:
            self._made[view] = self._make(view)
        return self._made[view]

    def select(self, part: Tensor | slice) -> "Views":
        """Views of some of the rows. What is made already is picked from."""
        chosen = Views(_pick(self.rows, part), self.codec, self.preview, self.monitor, self.tokens)
        chosen._made = {view: _pick(made, part) for view, made in self._made.items()}
        return chosen

    def make(self, views: Iterable[str]) -> None:
        """Makes these views now, as far as the model has them."""
        for view in sorted(views):
            _ = self.gives(view) and self[view]

    def gives(self, view: str) -> bool:
        """Whether the model has such a view."""
        return self.codec.view(view, self.preview) is not None

    def keys(self, rows: bool = False) -> list[Hashable]:
        """What equal samples share: text, or a digest of rows of tokens or of real numbers.

        Args:
            rows: Whether rewards take rows: then nothing is decoded to tell samples apart.
        """
        if not rows and self.tokens is not None:
            samples = self["samples"]
            if all(isinstance(sample, str) for sample in samples):
                return list(samples)
        x = self.rows.flatten(1)
        x = x if self.tokens is not None else x.float()
        digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x.cpu().numpy()]
        return [("preview", d) for d in digests] if self.preview and self.codec.preview is not None else [*digests]

    def _make(self, view: str) -> Any:
        make, given = self.codec.view(view, self.preview), self.rows
        if make is None:
            raise GuidedError(f"the model has no {view} to give to a reward")
        if view == "samples" and self.codec.from_pixels is not None and self.gives("pixels"):
            make, given = self.codec.from_pixels, self["pixels"]
        with self.monitor.time("decode"):
            made = make(given)
        if len(made) != len(self.rows):
            raise GuidedError(f"the model's decode made {len(made)} {view} of {len(self.rows)} rows")
        return made


def _pick(made: Any, part: Tensor | slice) -> Any:
    if isinstance(part, slice):
        return made[part]
    if isinstance(made, Tensor):
        return made.index_select(0, part)  # copies whole rows, unlike indexing
    return made[part.cpu().numpy()] if isinstance(made, np.ndarray) else [made[i] for i in part.tolist()]
