r"""From the scores of several rewards to one number: a weighted mean, a weighted product, or Tchebycheff's distance.

Letters: T terms, scores `s` with shape `(T, *)`, weights `w` with shape `(T, *)`, at least 0 and not all 0:

.. math:: \sum_i \bar w_i s_i, \quad \prod_i s_i^{\bar w_i}, \quad 1 - \max_i \frac{w_i}{\max_j w_j} (1 - s_i)
    \qquad \text{with} \quad \bar w_i = w_i / \sum_j w_j

The last one takes 1 as the best score there is. Its optima over all weights are all of a Pareto front; those of the
mean are the convex part of it only. A constraint is no term of these: what it is violated by is taken off the result.

References:
    | Nonlinear Multiobjective Optimization (Miettinen, 1998), chapter 3
"""

__all__ = ["AGGREGATES", "Aggregate", "scalarise", "tchebycheff", "weighted_mean", "weighted_product"]

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError

Array = NDArray[np.float64]
Aggregate = Literal["mean", "product", "tchebycheff"]


def weighted_mean(scores: Array, weights: Array) -> Array:
    """`sum_i w_i s_i / sum_i w_i` over the first axis; -inf in a term gives -inf.

    Args:
        scores: With shape `(T, *)`.
        weights: With shape `(T, *)`, or one that broadcasts to it.
    """
    worst = np.isneginf(scores)
    # no matrix product: its rounding depends on the place in the batch, and equal samples must have equal rewards
    mean = (weights / weights.sum(axis=0) * np.where(worst, 0.0, scores)).sum(axis=0)
    return np.where(worst.any(axis=0), -np.inf, mean)


def weighted_product(scores: Array, weights: Array) -> Array:
    """`prod_i s_i^(w_i / sum w)` over the first axis; -inf in a term gives -inf.

    Args:
        scores: With shape `(T, *)`.
        weights: With shape `(T, *)`, or one that broadcasts to it.

    Raises:
        ValueError: A score is negative and is not -inf.
    """
    worst = np.isneginf(scores)
    if np.any((scores < 0) & ~worst):
        raise GuidedError(f"a weighted product takes scores >= 0, given {scores[(scores < 0) & ~worst][0]:g}")
    powers = np.where(worst, 0.0, scores) ** (weights / weights.sum(axis=0))
    return np.where(worst.any(axis=0), -np.inf, powers.prod(axis=0))


def tchebycheff(scores: Array, weights: Array) -> Array:
    """`1 - max_i w_i (1 - s_i) / max w` over the first axis; -inf in a term gives -inf.

    Args:
        scores: With shape `(T, *)`; 1 is the best there is.
        weights: With shape `(T, *)`, or one that broadcasts to it.
    """
    worst = np.isneginf(scores)
    distances = weights / weights.max(axis=0) * (1 - np.where(worst, 0.0, scores))
    return np.where(worst.any(axis=0), -np.inf, 1 - distances.max(axis=0))


AGGREGATES: dict[str, Callable[[Array, Array], Array]] = {
    "mean": weighted_mean,
    "product": weighted_product,
    "tchebycheff": tchebycheff,
}


def scalarise(scores: Array, weights: Array, constraints: NDArray[np.bool_], aggregate: str) -> Array:
    """One number for each sample, with shape `(*)`.

    Args:
        scores: With shape `(T, *)`. Those of constraints are at most 0.
        weights: With shape `(T, *)`, or one that broadcasts to it; those of constraints do not count.
        constraints: Which terms are constraints, with shape `(T,)`. If all are, their sum is maximised.
        aggregate: "mean", "product" or "tchebycheff".
    """
    if not constraints.any():
        return AGGREGATES[aggregate](scores, weights)
    violated = scores[constraints].sum(axis=0)
    if constraints.all():
        return np.asarray(violated)
    return np.asarray(AGGREGATES[aggregate](scores[~constraints], weights[~constraints]) + violated)
