"""The report's section of texts: the best of them as they are, and some of the unguided model's beside them."""

__all__ = ["NAME", "numbers", "section"]

from collections.abc import Sequence
from html import escape
from statistics import median

from guided.report.contents import Contents
from guided.report.rows import Row, best_rows, parts_text, prompt_text, request_text, reward_text, sample_of

NAME = "texts"
BEST, OTHERS = 12, 6


def section(contents: Contents) -> str | None:
    """A row for each of the best texts, and for the unguided model's first; None if the samples are no texts."""
    if contents.modality != "text" or not contents.rows:
        return None
    parts = [_table(best_rows(contents.rows, BEST), contents)]
    if contents.unguided:
        parts += ["<h2>Texts of the unguided model</h2>", _table(contents.unguided[:OTHERS], contents)]
    return "".join(parts)


def numbers(contents: Contents) -> list[tuple[str, str, str]]:
    """The median number of words, the unguided model's beside it."""
    own, other = (_words(rows) for rows in (contents.rows, contents.unguided))
    return [("words", f"{own:g}", f"unguided {other:g}" if contents.unguided else "median")] if contents.rows else []


def _words(rows: Sequence[Row]) -> float:
    return median(len(sample_of(row).split()) for row in rows) if rows else 0.0


def _table(rows: Sequence[Row], contents: Contents) -> str:
    """Rows with their reward, request, prompt and text; spaces and ends of lines are kept."""
    run, terms = contents.run, any(map(parts_text, rows))
    prompted = run["config"].get("prompt") is not None
    names = ["reward", *(["terms"] if terms else []), "request", *(["prompt"] if prompted else []), "text"]
    lines = []
    for row in rows:
        cells = [f"<b>{reward_text(row)}</b>", *([escape(parts_text(row))] if terms else []), escape(request_text(row))]
        cells += [escape(prompt_text(run, row))] if prompted else []
        cells.append(f'<span class="text">{escape(sample_of(row))}</span>')
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    head = "".join(f"<th>{name}</th>" for name in names)
    return f'<table class="texts"><tr>{head}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'
