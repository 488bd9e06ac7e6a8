"""Pictures for the report, as SVG text: rewards beside the unguided model's, values over the steps, molecules."""

__all__ = ["histogram", "molecule", "value_path"]

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GUIDED, UNGUIDED, INK, FAINT = "#1f5a96", "#a9adb3", "#22252a", "#6b7078"
BINS = 24
ATOMS = {6: INK, 7: "#2457a6", 8: "#c0392b", 9: "#2e7d5b", 16: "#9a7500", 17: "#2e7d32", 35: "#8c3b1f"}
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "svg.fonttype": "path",
    "svg.hashsalt": "guided",
}


def histogram(guided: Sequence[float], unguided: Sequence[float], label: str) -> str:
    """Shares of the samples over the reward, with the medians; numbers that are not finite are left out."""
    laws = [(law, color, name) for law, color, name in _laws(guided, unguided) if len(law)]
    if not laws:
        return ""
    low, high = min(law.min() for law, _, _ in laws), max(law.max() for law, _, _ in laws)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    figure, axes = _figure()
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
    return _svg(figure)


def value_path(steps: Sequence[int], mean: Sequence[float], best: Sequence[float], label: str) -> str:
    """The value of the candidates over the steps: their mean, and the best of each request, on average."""
    figure, axes = _figure()
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
    return _svg(figure)


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
    return _inline(drawing.GetDrawingText())


def _laws(guided: Sequence[float], unguided: Sequence[float]) -> list[tuple[np.ndarray, str, str]]:
    finite = [np.array([reward for reward in law if np.isfinite(reward)]) for law in (unguided, guided)]
    return [(finite[0], UNGUIDED, "unguided"), (finite[1], GUIDED, "guided" if len(finite[0]) else "samples")]


def _figure() -> "tuple[Figure, Axes]":
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.9, 3.1), layout="constrained")
        FigureCanvasAgg(figure)  # no window system is asked
        axes: Axes = figure.add_subplot()
    return figure, axes


def _svg(figure: "Figure") -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue())


def _inline(svg: str) -> str:
    """The `<svg>` element alone, as HTML takes it."""
    return svg[svg.index("<svg") :]
