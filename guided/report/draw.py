"""Pictures of any run, as SVG text: rewards beside the unguided model's, values over the steps, molecules."""

__all__ = ["histogram", "kmer_scatter", "molecule", "value_path"]

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guided.metrics.kmers import correlation
from guided.report.canvas import FAINT, GUIDED, INK, UNGUIDED, canvas, inline, styled, to_svg

BINS = 24
ATOMS = {6: INK, 7: "#2457a6", 8: "#c0392b", 9: "#2e7d5b", 16: "#9a7500", 17: "#2e7d32", 35: "#8c3b1f"}


@styled
def histogram(guided: Sequence[float], unguided: Sequence[float], label: str) -> str:
    """Shares of the samples over the reward, with the medians; numbers that are not finite are left out."""
    laws = [(law, color, name) for law, color, name in _laws(guided, unguided) if len(law)]
    if not laws:
        return ""
    low, high = min(law.min() for law, _, _ in laws), max(law.max() for law, _, _ in laws)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    figure = canvas()
    axes = figure.add_subplot()
    for law, color, _ in laws:
        heights = np.histogram(law, edges)[0] / len(law)
        axes.stairs(100 * heights, edges, fill=True, color=color, alpha=0.85 if color == GUIDED else 0.7, lw=0)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.22)
    for row, (law, color, name) in enumerate(laws):
        median = float(np.median(law))
        ink = FAINT if color == UNGUIDED else color
        axes.plot([median, median], [0, top * (1.05 + 0.09 * row)], color=ink, lw=1.0)
        left = median > (low + high) / 2
        text = f"{name}, median {median:.3g} " if left else f" {name}, median {median:.3g}"
        axes.text(median, top * (1.05 + 0.09 * row), text, color=ink, ha="right" if left else "left", va="center")
    axes.set_xlabel(label)
    axes.set_ylabel("samples (%)")
    return to_svg(figure)


@styled
def value_path(steps: Sequence[int], mean: Sequence[float], best: Sequence[float], label: str) -> str:
    """The value of the candidates over the steps: their mean, and the best of each request, on average."""
    figure = canvas()
    axes = figure.add_subplot()
    axes.plot(steps, best, color=GUIDED, lw=1.6)
    axes.plot(steps, mean, color=FAINT, lw=1.2)
    axes.margins(x=0.01)
    at = len(steps) // 2
    for values, color, name, up in ((best, GUIDED, "best candidate", 6), (mean, FAINT, "mean of the candidates", -9)):
        side = "bottom" if up > 0 else "top"
        axes.annotate(
            name, (steps[at], values[at]), (0, up), textcoords="offset points", color=color, ha="center", va=side
        )
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    return to_svg(figure)


@styled
def kmer_scatter(guided: NDArray[np.int64], unguided: NDArray[np.int64], k: int) -> str:
    """Frequencies of the words of k letters, with Pearson's r; a word that one law lacks is put at half a count there.

    Arguments:
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


def molecule(smiles: str, width: int = 220, height: int = 165) -> str | None:
    """A drawing of a molecule; None if RDKit cannot read it."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdCoordGen, rdDepictor
    from rdkit.Chem.Draw import rdMolDraw2D

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles) if smiles else None
    if mol is None:
        return None
    rdCoordGen.AddCoords(mol)  # keeps bridged rings legible
    rdDepictor.NormalizeDepiction(mol)  # lays it along the page
    drawing = rdMolDraw2D.MolDraw2DSVG(width, height)
    options: Any = drawing.drawOptions()
    options.clearBackground = False
    options.bondLineWidth = 1.4
    options.scaleBondWidth = False
    options.fixedBondLength = 24  # one scale for all that fit
    options.minFontSize, options.maxFontSize = 11, 13
    options.padding = 0.06
    options.updateAtomPalette(
        {number: tuple(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)) for number, c in ATOMS.items()}
    )
    rdMolDraw2D.PrepareAndDrawMolecule(drawing, mol)
    drawing.FinishDrawing()
    return inline(drawing.GetDrawingText())


def _laws(guided: Sequence[float], unguided: Sequence[float]) -> list[tuple[np.ndarray, str, str]]:
    finite = [np.array([reward for reward in law if np.isfinite(reward)]) for law in (unguided, guided)]
    return [(finite[0], UNGUIDED, "unguided"), (finite[1], GUIDED, "guided" if len(finite[0]) else "samples")]
