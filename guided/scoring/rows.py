"""Scores of rows by rewards that take tensors: nothing is decoded, and scores come to the host once.

Rows of tokens are scored once each, as texts are: equal ones share their scores, within a batch and between batches.
"""

__all__ = ["RowScores", "takes_rows"]

from collections.abc import Collection, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guided.core.batching import Evaluator, Rows
from guided.core.codec import Codec
from guided.core.views import EachPrompt, Views
from guided.scoring.seen import SeenRows
from guided.scoring.term import Term

Scores = NDArray[np.float64]


def takes_rows(takes: Collection[str], codec: Codec, preview: bool) -> bool:
    """Whether rewards that take samples in these forms are all given tensors by a model."""
    return "samples" not in takes and all(codec.view(view, preview) is not None for view in takes)


class RowScores:
    """Raw scores of clean rows by `T` terms, none of which takes samples.

    Attributes:
        calls: Rows that were really scored.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms, self.calls = tuple(terms), 0
        self.clear()

    def clear(self) -> None:
        """Forgets the rows seen so far."""
        self._seen: SeenRows | None = None
        self._preview = False
        self._texts: dict[str, int] = {}
        self._scores: Scores = np.zeros((0, len(self.terms)))

    def __call__(self, views: Views, prompts: EachPrompt | None, parts: Evaluator) -> Scores:
        """Raw scores `(T, n)`, each finite or -inf; waits for the device at most twice.

        Args:
            views: `n` rows.
            prompts: Their prompts, if a term wants them.
            parts: How many of them a term is given at a time.
        """
        if views.tokens is None:  # real numbers: nobody's duplicate
            return self._scored(views, prompts, parts).T
        if self._seen is None or self._preview != views.preview:  # a row has another look as a look-ahead
            self._start(views)
        assert self._seen is not None
        number, fresh = self._seen.find(views.rows, None if prompts is None else self._groups(prompts))
        if len(fresh):
            theirs = None if prompts is None else prompts.select(fresh)
            try:
                new = self._scored(views.select(fresh), theirs, parts)
            except BaseException:
                self.clear()  # the rows were noted, and have no scores
                raise
            self._scores = np.concatenate([self._scores[: len(self._seen) - len(new)], new])
        return np.ascontiguousarray(self._scores[number].T)

    def _start(self, views: Views) -> None:
        """Begins to note rows, or goes on where look-aheads and samples of a row are the same."""
        if self._seen is None or views.codec.preview is not None:
            self.clear()
            self._seen = SeenRows(views.tokens or 0)
        self._preview = views.preview

    def _groups(self, prompts: EachPrompt) -> Tensor:
        """A number for the prompt of each row, the same for all batches."""
        numbers = [self._texts.setdefault(text, len(self._texts)) for text in prompts.texts]
        if numbers == list(range(len(numbers))):
            return prompts.number
        return torch.tensor(numbers, device="cpu").to(prompts.number.device)[prompts.number]

    def _scored(self, views: Views, prompts: EachPrompt | None, parts: Evaluator) -> Scores:
        """Scores `(n, T)` of rows, each of which is given to the terms."""
        self.calls += len(views)
        views.make({term.source.takes for term in self.terms})  # at once, not part by part
        raw = parts(partial(self._part, views, prompts), len(views)).cpu().double().numpy()
        columns = [term.raw.checked(raw[:, i], lambda: views["samples"]) for i, term in enumerate(self.terms)]
        return np.stack(columns, axis=1)

    def _part(self, views: Views, prompts: EachPrompt | None, part: Rows) -> Tensor:
        """Scores `(m, T)` of a part of the rows, on their device, not yet checked."""
        some = views.select(part)
        theirs = None if prompts is None else prompts.select(part)
        real = torch.float32 if some.rows.device.type == "mps" else torch.float64
        columns = [
            term.raw.tensor(some[term.source.takes], theirs, lambda: some["samples"]).to(some.rows.device, real)
            for term in self.terms
        ]
        return torch.stack(columns, dim=1)
