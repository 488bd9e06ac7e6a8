r"""Rewards with gradients: scores of clean rows in real numbers, which stay in torch.

A reward says that it has them with `register_reward(..., differentiable=True)`. Besides samples it is then given

| takes | in real numbers |
|---|---|
| "tokens" | probabilities of nucleotides, `(n, L, 4)`; what is no nucleotide counts as none |
| "pixels" | pixels in [0, 1] before they are rounded, `(n, 3, H, W)` |
| "latents" | clean rows, `(n, *event)`; of tokens their probabilities, `(n, L, V)` |

and returns scores `(n,)` through which torch finds gradients. A weighted mean of such rewards has them too.
"""

__all__ = ["obstacle", "relaxed"]

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from guided.core.codec import Codec
from guided.core.views import EachPrompt
from guided.errors import GuidedError
from guided.scoring.function import Function
from guided.scoring.term import Term


def obstacle(terms: Sequence[Term], aggregate: str) -> str | None:
    """Why the rewards have no gradient, in one line; None if they have."""
    for term in terms:
        if not term.source.differentiable:
            how = "registered with differentiable=True, as activity and brightness are"
            return f"reward {term.name!r} has no gradient; it must be one that is {how}"
        if term.transform is not None:
            return f"reward {term.name!r} has a transform, which has no gradient here; leave it out"
    if len(terms) > 1 and aggregate != "mean":
        return f"the aggregate is {aggregate!r}, which has no gradient here; it must be mean"
    return None


def relaxed(terms: Sequence[Term], rows: Tensor, codec: Codec, prompts: EachPrompt | None) -> Tensor:
    """The weighted mean of the scores of rows in real numbers, with shape `(n,)`, in torch.

    Args:
        terms: Rewards without an obstacle.
        rows: Clean rows, with shape `(n, *event)`, or `(n, L, V)` for tokens.
        codec: The model's.
        prompts: A prompt for each row, if the run has any.

    Raises:
        GuidedError: The model has no such view in real numbers, or a reward returned anything but `(n,)` scores.
    """
    total = sum(term.weight for term in terms)
    scores: Tensor = rows.new_zeros(len(rows))
    for term in terms:
        source = term.source
        given = cast("Function", source.scorer).relaxed(codec.relaxed(source.takes, rows), prompts)
        if not isinstance(given, Tensor) or given.shape != (len(rows),):
            said = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
            raise GuidedError(f"reward {term.name!r} returned {said} for real numbers; it must be a tensor of (n,)")
        scores = scores + term.weight / total * given
    return scores
