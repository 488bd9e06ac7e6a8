"""The report's section of molecules: the best of them, drawn."""

__all__ = ["NAME", "molecule", "numbers", "section"]

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np

from guided.metrics.molecules import ChemNet, canonical, frechet_distance, internal_diversity, scaffold_diversity
from guided.report.canvas import INK, inline
from guided.report.contents import Contents
from guided.report.rows import Row, best_rows, number, parts_text, request_text, reward_text, rewards_of, sample_of

NAME = "samples"
BEST = 12
QUANTILES = (0.1, 0.5, 0.9, 1.0)
COLUMNS = ("samples", "10 %", "median", "90 %", "best", "no score")
FEWEST = 50  # molecules of a set that a distance of sets is shown for; it is biased upwards for few
MOST = 2000  # samples that are compared pair by pair
ATOMS = {6: INK, 7: "#2457a6", 8: "#c0392b", 9: "#2e7d5b", 16: "#9a7500", 17: "#2e7d32", 35: "#8c3b1f"}


def section(contents: Contents) -> str | None:
    """Drawings of the best distinct molecules; None if not all of these samples are molecules."""
    best = best_rows(contents.rows, BEST)
    drawings = [molecule(sample_of(row)) for row in best]
    if not best or not all(drawings):
        return None
    cells = [_drawn(contents, row, drawing or "") for row, drawing in zip(best, drawings, strict=True)]
    return f'{distribution(contents)}<div class="grid">{"".join(cells)}</div>'


def distribution(contents: Contents) -> str:
    """A table of the rewards and their quantiles, the unguided model's below; empty for a run without a reward."""
    lines = [
        _quantiles(name, rewards_of(rows))
        for name, rows in (("guided", contents.rows), ("unguided", contents.unguided))
        if rewards_of(rows)
    ]
    head = "".join(f"<th>{escape(word)}</th>" for word in (contents.reward_name or "reward", *COLUMNS))
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>" if lines else ""


def _quantiles(name: str, rewards: Sequence[float]) -> str:
    found = [reward for reward in rewards if math.isfinite(reward)]
    values = [f"{value:.3f}" for value in np.quantile(found, QUANTILES)] if found else [""] * len(QUANTILES)
    cells = [name, str(len(rewards)), *values, str(len(rewards) - len(found))]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def numbers(contents: Contents) -> list[tuple[str, str, str]]:
    """What a run of molecules is judged by besides the reward, the unguided model's beside it; none for other runs.

    Valid, and one molecule, are shares of the graphs as they were drawn, where the model reports them.
    """
    own, other = (_measured(rows) for rows in (contents.rows, contents.unguided))
    found = [(name, value, f"unguided {other[name]}" if name in other else "") for name, value in own.items()]
    return [*found, *distance(contents)]


def distance(contents: Contents) -> list[tuple[str, str, str]]:
    """The Fréchet ChemNet distance between the run's molecules and the unguided model's, where there are enough."""
    sets = [_valid(rows) for rows in (contents.rows, contents.unguided)]
    if min(map(len, sets)) < FEWEST:
        return []
    try:
        net = ChemNet()
    except ImportError:
        return [("FCD to the unguided", "–", "needs fcd-torch: pip install guided[training]")]
    value = frechet_distance(*net.statistics(sets[0]), *net.statistics(sets[1]))
    return [("FCD to the unguided", f"{value:.2f}", f"{len(sets[0])} and {len(sets[1])} molecules")]


def _valid(rows: Sequence[Row]) -> list[str]:
    return [one for one in (canonical(sample_of(row)) for row in rows[:MOST]) if one]


def _measured(rows: Sequence[Row]) -> dict[str, str]:
    smiles = _valid(rows)
    if not rows or 2 * len(smiles) < len(rows[:MOST]):
        return {}
    found = {"internal diversity": internal_diversity(smiles), "scaffold diversity": scaffold_diversity(smiles)}
    shares: tuple[tuple[str, str, Callable[[float], float]], ...] = (
        ("valid as drawn", "valid", float),
        ("drawn as one molecule", "fragments", lambda parts: float(parts == 1)),
        ("atoms in the largest part", "largest_share", float),
    )
    for name, column, of in shares:
        if all(column in row for row in rows):
            found[name] = sum(of(number(row[column])) for row in rows) / len(rows)
    return {name: f"{value:.2f}" for name, value in found.items()}


def _drawn(contents: Contents, row: Row, drawing: str) -> str:
    pose = contents.pose(row)
    below = " · ".join(filter(None, (parts_text(row), pose and f"pose in {pose}")))
    text = f"<b>{reward_text(row)}</b> <span>{escape(request_text(row))}</span><br>{escape(below)}"
    return f'<figure title="{escape(sample_of(row))}">{drawing}<figcaption>{text}</figcaption></figure>'


def molecule(smiles: str, width: int = 220, height: int = 165) -> str | None:
    """A drawing of a molecule as SVG text; None if RDKit cannot read it.

    Args:
        smiles: The molecule.
        width: In pixels.
        height: In pixels.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdCoordGen, rdDepictor

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles) if smiles.isascii() and smiles.isprintable() and smiles else None
    if mol is None:
        return None
    rdCoordGen.AddCoords(mol)  # keeps bridged rings legible
    rdDepictor.NormalizeDepiction(mol)  # lays it along the page
    return _svg(mol, width, height)


def _svg(mol: Any, width: int, height: int) -> str:
    from rdkit.Chem.Draw import rdMolDraw2D

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
