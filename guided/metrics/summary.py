"""The distribution of rewards in a few numbers."""

__all__ = ["summary"]

import statistics
from collections.abc import Sequence
from math import isfinite


def summary(rewards: Sequence[float]) -> dict[str, float | int]:
    """The distribution of the rewards in a few numbers, of those that are finite: a failed reward counts as -inf."""
    finite = sorted(reward for reward in rewards if isfinite(reward))
    numbers: dict[str, float | int] = {"rewards": len(rewards), "failed": len(rewards) - len(finite)}
    if finite:
        cuts = statistics.quantiles(finite, n=20, method="inclusive") if len(finite) > 1 else finite * 19
        numbers |= {
            "mean": statistics.fmean(finite),
            "median": statistics.median(finite),
            "min": finite[0],
            "max": finite[-1],
        }
        numbers |= {"q05": cuts[0], "q25": cuts[4], "q75": cuts[14], "q95": cuts[18]}
    return numbers
