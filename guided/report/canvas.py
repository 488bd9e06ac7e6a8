"""Figures without a window system, as SVG text that HTML takes inline."""

__all__ = [
    "FAINT",
    "GUIDED",
    "INK",
    "NUCLEOTIDES",
    "UNGUIDED",
    "canvas",
    "inline",
    "label_text",
    "mathematics",
    "styled",
    "to_svg",
]

import io
import re
import warnings
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

GUIDED, UNGUIDED, INK, FAINT = "#1f5a96", "#a9adb3", "#22252a", "#6b7078"
#: The customary hues of the bases, as light and dark as it takes for readers without red, green or blue cones to tell
#: them apart: by the model of Machado et al. (2009) any two differ by 38 or more (CIE 1976); on white, contrast >= 3.
NUCLEOTIDES = {"A": "#12a189", "C": "#1f3c7a", "G": "#ae8213", "T": "#730d1c", "U": "#730d1c"}
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "svg.fonttype": "path",
    "svg.hashsalt": "guided",
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "text.usetex": False,
}
_COORDINATES = re.compile(r' (?:d|x|y)="[^"]*"')
_DIGITS = re.compile(r"(\.\d\d)\d+")
LONGEST = 60  # characters of a label


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """A function that draws, in the style of the report."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def mathematics(draw: Callable[P, R]) -> Callable[P, R]:
    """A function that draws, with formulas in its text, as in the powers of ten at logarithmic axes; none of it is a
    user's.
    """

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": True}):
            return draw(*args, **kwargs)

    return drawn


def label_text(name: str) -> str:
    """A name as a figure can have it: on one line, not too long, without characters that cannot be drawn."""
    text = "".join(letter if letter.isprintable() else "�" for letter in " ".join(name.split()))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def canvas(width: float = 4.9, height: float = 3.1) -> "Figure":
    """An empty figure, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no window system is asked
    return figure


def to_svg(figure: "Figure") -> str:
    """The figure as an `<svg>` element; hundredths of a point are enough for its lines."""
    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # it is a box, whatever the fonts
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _COORDINATES.sub(lambda path: _DIGITS.sub(r"\1", path[0]), inline(text.getvalue()))


def inline(svg: str) -> str:
    """The `<svg>` element alone, as HTML takes it."""
    return svg[svg.index("<svg") :]
