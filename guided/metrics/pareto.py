r"""Measures of a set of samples with several scores, all to be maximised.

A sample dominates another if none of its scores is lower and one is higher; those that no other dominates are the
front. The hypervolume is the volume between a reference point and the front; R2 is the mean over weights of the
smallest weighted distance :math:`\max_i w_i (z_i - s_i)` to an ideal point :math:`z`, so lower is better.

Letters: n samples, T scores.

References:
    | Performance Assessment of Multiobjective Optimizers: An Analysis and Review (Zitzler et al., 2003)
    | https://doi.org/10.1109/TEVC.2003.810758

    | On the Properties of the R2 Indicator (Brockhoff, Wagner and Trautmann, 2012)
    | https://doi.org/10.1145/2330163.2330230
"""

__all__ = ["gain", "gaps", "hypervolume", "non_dominated", "r2", "ranked", "simplex"]

from collections.abc import Sequence
from itertools import combinations, pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

from guided.errors import GuidedError

Array = NDArray[np.float64]
WEIGHTS = 1000  # vectors that R2 is averaged over, where there are more than two scores


def non_dominated(scores: Array) -> NDArray[np.bool_]:
    """Which samples no other dominates, with shape `(n,)`; of equal ones all.

    Args:
        scores: With shape `(n, T)`.
    """
    import moocore

    return np.asarray(moocore.is_nondominated(_checked(scores), maximise=True, keep_weakly=True), dtype=bool)


def ranked(scores: Array) -> list[int]:
    """The samples in the order of NSGA-II: by the number of fronts to take away before they are on one, then lonely
    ones first, by the sum over scores of the distance between their neighbours on the front.

    Args:
        scores: With shape `(n, T)`.

    References:
        | A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II (Deb et al., 2002)
        | https://doi.org/10.1109/4235.996017
    """
    import moocore

    ranks = np.asarray(moocore.pareto_rank(_checked(scores), maximise=True))
    lonely = np.zeros(len(scores))
    for rank in np.unique(ranks):
        own = np.flatnonzero(ranks == rank)
        for column in scores[own].T:
            order = own[np.argsort(column, kind="stable")]
            sides = np.sort(column)
            width = (sides[-1] - sides[0]) or 1.0
            lonely[order[[0, -1]]] = np.inf
            lonely[order[1:-1]] += (sides[2:] - sides[:-2]) / width
    return sorted(range(len(scores)), key=lambda i: (ranks[i], -lonely[i]))


def hypervolume(scores: Array, reference: Sequence[float]) -> float:
    """The volume of the scores that a sample reaches in all, above the reference point; at least 0.

    Args:
        scores: With shape `(n, T)`.
        reference: The point, `T` numbers.

    Raises:
        GuidedError: The shapes do not agree, or a score is not finite.
    """
    import moocore

    found = _checked(scores, len(reference))
    above = found[(found > np.asarray(reference)).all(1)]
    return float(moocore.hypervolume(above, ref=np.asarray(reference), maximise=True)) if len(above) else 0.0


def gain(point: Array, scores: Array, reference: Sequence[float]) -> float:
    """The volume that a point would add to that of the scores; at least 0.

    Args:
        point: With shape `(T,)`.
        scores: With shape `(n, T)`.
        reference: As of the hypervolume.
    """
    alone = float(np.prod(np.maximum(point - np.asarray(reference), 0.0)))
    return max(0.0, alone - hypervolume(np.minimum(scores, point), reference))


def gaps(scores: Array, ideal: Sequence[float]) -> Array:
    """The gaps of a front: the two points on the sides of each, with shape `(m, 2, T)`.

    They are the pairs of neighbours, that is, of two points of the front between whose worst and best no other lies;
    and at the ends the point that is best in a score, with itself raised to the ideal one there, if there is room.

    Args:
        scores: Of all samples, with shape `(n, T)`.
        ideal: The best scores there are, `T` numbers.
    """
    front = np.unique(scores[non_dominated(scores)], axis=0)  # sorted
    found = []
    for a, b in combinations(front, 2):
        if ((front >= np.minimum(a, b)) & (front <= np.maximum(a, b))).all(1).sum() == 2:
            found.append((a, b))
    for t, best in enumerate(ideal):
        point = front[front[:, t].argmax()]
        if best > point[t]:
            found.append((point, np.where(np.arange(len(point)) == t, best, point)))
    return np.array(found).reshape(-1, 2, scores.shape[1])


def r2(scores: Array, ideal: Sequence[float]) -> float:
    """The mean over all weights of the smallest weighted distance to the ideal point; 0 if it is reached.

    With two scores it is exact, with more it is averaged over an even grid of weights.

    Args:
        scores: With shape `(n, T)`; none is above the ideal point.
        ideal: The point, `T` numbers.

    Raises:
        GuidedError: The shapes do not agree, or a score is not finite.
    """
    found = _checked(scores, len(ideal))
    if found.shape[1] == 2:
        import moocore

        return float(moocore.r2_exact(found, ref=np.asarray(ideal, dtype=float), maximise=True))
    weights = simplex(found.shape[1], WEIGHTS)
    distances = (weights[:, None] * (np.asarray(ideal) - found)).max(2)
    return float(distances.min(1).mean())


def simplex(terms: int, most: int) -> Array:
    """The largest even grid of weights with at most so many vectors, `(m, T)`: all multiples of 1/H that sum to 1.

    References:
        | Normal-Boundary Intersection: A New Method for Generating the Pareto Surface in Nonlinear Multicriteria
        | Optimization Problems (Das and Dennis, 1998)
        | https://doi.org/10.1137/S1052623496307510
    """
    H = 1
    while terms > 1 and comb(H + terms, terms - 1) <= most:
        H += 1
    rows = []
    for bars in combinations(range(H + terms - 1), terms - 1):
        edges = [-1, *bars, H + terms - 1]
        rows.append([right - left - 1 for left, right in pairwise(edges)])
    return np.array(rows, dtype=np.float64) / H


def _checked(scores: Array, terms: int | None = None) -> Array:
    found = np.asarray(scores, dtype=np.float64)
    if found.ndim != 2 or not found.size or terms not in (None, found.shape[1]):
        wanted = "(n, T)" if terms is None else f"(n, {terms})"
        raise GuidedError(f"the scores have shape {found.shape}; they must have {wanted}, and there must be a sample")
    if not np.isfinite(found).all():
        raise GuidedError("the scores of a front are finite numbers; leave failed samples out")
    return found
