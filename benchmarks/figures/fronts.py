"""The front of two rewards with fixed and with adaptive weights, by benchmarks/pareto.py."""

__all__ = ["TABLES"]

from pathlib import Path
from typing import Any

from benchmarks.figures.draw import script
from benchmarks.figures.recipe import Measurement, Row, Table
from guided.storage import read_json

TASKS = {"qed-sa": "QED, SA", "qed-similarity": "QED, similarity"}
WAYS = [f"{way}, {aggregate}" for aggregate in ("mean", "tchebycheff") for way in ("separate", "adaptive")]


def side_by_side(out: Path) -> list[Row]:
    """A row for each task and number of calls, with all ways beside one another."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for found in read_json(out / "rows.json")["rows"]:
        task, calls = found["task"], found["calls"]
        row = rows.setdefault((task, calls), {"rewards": TASKS[task], "calls": calls})
        row[found["way"]] = [found["mean"], found["half"]]
    return list(rows.values())


PARETO = Measurement(
    "pareto",
    ("molecules",),
    {"a thousand repetitions": {"commands": ["benchmarks/pareto.py --repeat 1000 --out {out} --json {out}/rows.json"]}},
    script(side_by_side),
    minutes=15,
)
TABLES = (
    Table(
        PARETO,
        {"rewards": "{rewards}", "calls each": "{calls}"}
        | {way: f"{{{way}[0]:.4f}} ± {{{way}[1]:.4f}}" for way in WAYS},
    ),
)
