"""Figures of any run, as SVG text: rewards beside the unguided model's, values over the steps, k-mers."""

__all__ = ["call_curve", "histogram", "kmer_scatter", "value_path"]

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from guided.metrics.kmers import correlation
from guided.report.canvas import FAINT, GUIDED, UNGUIDED, canvas, label_text, mathematics, styled, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 24
Rewards = NDArray[np.float64]


@styled
def histogram(guided: Sequence[float], unguided: Sequence[float], label: str) -> str:
    """Shares of the samples over the reward, with the medians; numbers that are not finite are left out.

    Args:
        guided: Rewards of n samples.
        unguided: Rewards of the unguided model's; none where there are none.
        label: The reward's name.
    """
    sets = [(rewards, color, name) for rewards, color, name in _finite(guided, unguided) if len(rewards)]
    if not sets:
        return ""
    low, high = min(rewards.min() for rewards, _, _ in sets), max(rewards.max() for rewards, _, _ in sets)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    figure = canvas()
    axes = figure.add_subplot()
    for rewards, color, _ in sets:
        heights = np.histogram(rewards, edges)[0] / len(rewards)
        axes.stairs(100 * heights, edges, fill=True, color=color, alpha=0.85 if color == GUIDED else 0.7, lw=0)
    _medians(axes, sets, (low + high) / 2)
    axes.set_xlabel(label_text(label))
    axes.set_ylabel("samples (%)")
    return to_svg(figure)


def _medians(axes: "Axes", sets: Sequence[tuple[Rewards, str, str]], middle: float) -> None:
    """A line at each median, with its name on the side that has room."""
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.22)
    for row, (rewards, color, name) in enumerate(sets):
        median = float(np.median(rewards))
        ink, height = FAINT if color == UNGUIDED else color, top * (1.05 + 0.09 * row)
        axes.plot([median, median], [0, height], color=ink, lw=1.0)
        left = median > middle
        text = f"{name}, median {median:.3g} " if left else f" {name}, median {median:.3g}"
        axes.text(median, height, text, color=ink, ha="right" if left else "left", va="center")


@styled
def value_path(steps: Sequence[int], mean: Sequence[float], best: Sequence[float], label: str) -> str:
    """The value of the candidates over the steps: their mean, and the best of each request, on average.

    Args:
        steps: The steps, in their order.
        mean: A number for each step.
        best: A number for each step.
        label: What the value is.
    """
    figure = canvas()
    axes = figure.add_subplot()
    axes.plot(steps, best, color=GUIDED, lw=1.6, label="best candidate")
    axes.plot(steps, mean, color=FAINT, lw=1.2, label="mean of the candidates")
    axes.margins(x=0.01)
    axes.legend(frameon=False, loc="best")
    axes.set_xlabel("step")
    axes.set_ylabel(label_text(label))
    return to_svg(figure)


@styled
@mathematics
def call_curve(calls: Sequence[int], best: Sequence[float], top: Sequence[float], label: str) -> str:
    """The best reward so far, and the mean of the ten best so far, against calls, on a logarithmic axis.

    Args:
        calls: The calls, in their order.
        best: A number for each.
        top: A number for each.
        label: The reward's name.
    """
    figure = canvas()
    axes = figure.add_subplot(xscale="log")
    for heights, color, name in ((best, GUIDED, "best so far"), (top, FAINT, "mean of the ten best")):
        axes.step(calls, heights, where="post", color=color, lw=1.4, label=name)
    axes.legend(frameon=False, loc="lower right")
    axes.set_xlabel("reward calls of a sample")
    axes.set_ylabel(label_text(label).replace("$", r"\$"))
    return to_svg(figure)


@styled
@mathematics
def kmer_scatter(guided: NDArray[np.int64], unguided: NDArray[np.int64], k: int) -> str:
    """Frequencies of the words of length k, with Pearson's r; a word that one set lacks is put at half a count there.

    Args:
        guided: Counts, with shape `(4**k,)`.
        unguided: Counts, with shape `(4**k,)`; neither is all zeros.
        k: The length of the words.
    """
    totals = np.array([unguided.sum(), guided.sum()])
    points, times = np.unique(np.stack([unguided, guided], axis=1), axis=0, return_counts=True)
    times, points = times[points.any(axis=1)], points[points.any(axis=1)]
    x, y = (np.maximum(points, 0.5) / totals).T
    figure = canvas()
    axes = figure.add_subplot(xscale="log", yscale="log")
    ends = [min(x.min(), y.min()) / 1.3, max(x.max(), y.max()) * 1.3]
    axes.plot(ends, ends, color=FAINT, lw=0.8)
    axes.scatter(x, y, s=5 * np.sqrt(times), color=GUIDED, alpha=0.5, lw=0)  # equal words are one point
    r = correlation(guided / totals[1], unguided / totals[0])
    axes.set(xlim=ends, ylim=ends, xlabel=f"frequency of a {k}-mer, unguided", ylabel=f"frequency of a {k}-mer, guided")
    axes.set_title(f"Pearson r = {r:.3f}")
    return to_svg(figure)


def _finite(guided: Sequence[float], unguided: Sequence[float]) -> list[tuple[Rewards, str, str]]:
    sets = [np.array([reward for reward in rewards if np.isfinite(reward)]) for rewards in (unguided, guided)]
    return [(sets[0], UNGUIDED, "unguided"), (sets[1], GUIDED, "guided" if len(sets[0]) else "samples")]
