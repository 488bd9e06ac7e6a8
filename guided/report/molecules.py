"""The report's section of molecules: the best of them, drawn."""

__all__ = ["NAME", "molecule", "section"]

from html import escape
from typing import Any

from guided.report.canvas import INK, inline
from guided.report.contents import Contents
from guided.report.rows import Row, best_rows, parts_text, request_text, reward_text, sample_of

NAME = "samples"
BEST = 12
ATOMS = {6: INK, 7: "#2457a6", 8: "#c0392b", 9: "#2e7d5b", 16: "#9a7500", 17: "#2e7d32", 35: "#8c3b1f"}


def section(contents: Contents) -> str | None:
    """Drawings of the best distinct molecules; None if not all of these samples are molecules."""
    best = best_rows(contents.rows, BEST)
    drawings = [molecule(sample_of(row)) for row in best]
    if not best or not all(drawings):
        return None
    cells = [_drawn(row, drawing or "") for row, drawing in zip(best, drawings, strict=True)]
    return f'<div class="grid">{"".join(cells)}</div>'


def _drawn(row: Row, drawing: str) -> str:
    text = f"<b>{reward_text(row)}</b> <span>{escape(request_text(row))}</span><br>{escape(parts_text(row))}"
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
