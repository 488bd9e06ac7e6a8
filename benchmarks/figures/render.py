"""The blocks of the documents, as text."""

__all__ = ["BLOCK", "documents", "rendered", "written"]

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

from benchmarks.figures.measured import NEW, ROOT, Found, load, stale
from benchmarks.figures.recipe import Row, Table
from guided.errors import GuidedError

BLOCK = re.compile(r"<!-- figures: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)
PLACES = (
    *("README.md", "docs/*.md", "docs/measured/*.md", "training/README.md"),
    *("guided/checkpoints/*/README.md", "guided/checkpoints/negatives/*/README.md"),
)


def documents() -> list[Path]:
    """All of which tables may be part."""
    return [path for place in PLACES for path in sorted(ROOT.glob(place))]


def written(text: str, tables: Mapping[str, Table]) -> str:
    """The text of a document with its blocks as they should be.

    Raises:
        GuidedError: A block has no name that is known, or no end.
    """
    if text.count("<!-- figures:") != len(blocks := BLOCK.findall(text)):
        raise GuidedError("a block has no `<!-- end -->`, or its first line is not `<!-- figures: NAME -->`")
    for name, _ in blocks:
        if name not in tables:
            raise GuidedError(f"there is no table {name!r}; there are {', '.join(tables)}")
    return BLOCK.sub(
        lambda it: f"<!-- figures: {it[1]} -->\n\n{rendered(tables[it[1]])}\n<!-- end -->",
        text,
    )


def rendered(table: Table) -> str:
    """The table, where its numbers come from, and what of them is stale."""
    measurement, there = table.measurement, load(table.measurement)
    rows = [{"label": label, **row} for label, found in there.items() for row in found["rows"]]
    rows = [row for row in rows if table.entry in ("", *row)]
    columns = {head: [cell(format_, row) for row in rows] for head, format_ in table.columns.items()}
    columns = {head: cells for head, cells in columns.items() if any(cells) or not rows}
    cells = [[*columns], *zip(*columns.values(), strict=True)]
    lines = [f"| {' | '.join(line)} |".replace("  ", " ") for line in cells]
    lines.insert(1, "|" + "---|" * len(columns))
    why = {label: stale(measurement, label, there.get(label)) for label in measurement.runs}
    return "\n".join([*lines, "", notes([*there.values()], why, measurement.name), ""])


def cell(template: str | Callable[[Row], str], row: Row) -> str:
    """The formatted entry, as .5 and 10 %, not 0.5 and 10%; empty if the row has none."""
    try:
        text = template.format_map(dict(row)) if isinstance(template, str) else template(row)
    except (KeyError, TypeError, IndexError):
        return ""
    return re.sub(r"(?<![\d.])0(?=\.\d)", "", text).replace("%", " %")


def notes(runs: Sequence[Found], why: Mapping[str, str], name: str) -> str:
    """Lines beneath a table: when and on what its runs were measured, and which are stale."""
    texts = [f"*{'; '.join(dict.fromkeys(map(origin, runs)))}.*"] if runs else []
    reasons: dict[str, list[str]] = {}
    for label, reason in why.items():
        if reason:
            reasons.setdefault(reason, []).append(label)
    missing = reasons.pop(NEW, [])
    some = {reason: "" if len(labels) == len(why) else f" ({'; '.join(labels)})" for reason, labels in reasons.items()}
    if some:
        said = "; ".join(reason + which for reason, which in some.items())
        texts.append(f"**Stale**: measured with {said}. `make figures ONLY={name}` measures again.")
    if missing:
        texts.append(f"Not measured yet: {'; '.join(missing)}.")
    return "\n\n".join(textwrap.fill(text, 120, break_on_hyphens=False) for text in texts)


def origin(found: Found) -> str:
    """When, on which weights and on what a run was measured."""
    day = date.fromisoformat(found["date"])
    weights = ", ".join(f"{model} `{short}`" for model, short in found["weights"].items())
    parts = [f"{day.day} {day:%B %Y}", weights and f"weights {weights}", found.get("device")]
    parts += [found.get("torch") and f"torch {found['torch']}", found.get("note")]
    return ", ".join(part for part in parts if part)
