"""Summary of the results: each arm, the best weight of each method by each measure, and how often a judge prefers NPO.

Imported by npo.py; it does nothing by itself.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from npo_common import CFG, DOUBLE, NPO, PLAIN, Results, interval
from npo_cost import training
from npo_task import Metric, Task
from rich.console import Console
from rich.table import Table

METHODS = (PLAIN, DOUBLE, CFG, NPO)


def summarise(results: Results, task: Task) -> dict[str, Any]:
    """A summary of the cells, JSON-able: `arms`, `best` by the measure, `preferred` by the judge; then two tables."""
    best = {metric.name: best_of(results, metric) for metric in task.metrics}
    preferred = {name: preference(results, name) for name in results.cells[0]["scores"]}
    summary = {
        "arms": [arm_of(results, *key) for key in arms_in(results)],
        "best": best,
        "preferred": {name: found for name, found in preferred.items() if found is not None},
    }
    results.write(summary=summary)
    show(summary, task, results)
    return summary


def arms_in(results: Results) -> list[tuple[str, float]]:
    """The arms in the file, by method and weight."""
    found = {(cell["method"], cell["weight"]) for cell in results.cells}
    return sorted(found, key=lambda arm: (METHODS.index(arm[0]), arm[1]))


def arm_of(results: Results, method: str, weight: float) -> dict[str, Any]:
    """An arm over its seeds: means with the half-widths of their intervals."""
    cells = [*results.of(method, weight).values()]
    measures = {name: spread(values(cells, name)) for name in cells[0]["measures"]}
    rows, seconds = (statistics.fmean(c[name] for c in cells) for name in ("network_rows", "seconds"))
    known = {
        "method": method,
        "weight": weight,
        "seeds": len(cells),
        "network_rows": rows,
        "seconds": round(seconds, 1),
    }
    return known | {"measures": measures}


def values(cells: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The values of a measure in some cells, without those that are None."""
    return [cell["measures"][name] for cell in cells if cell["measures"][name] is not None]


def spread(numbers: Sequence[float]) -> dict[str, float | None]:
    """The mean and the half-width of the interval; None if there is none."""
    mean, half = interval(numbers) if numbers else (math.nan, math.nan)
    return {name: value if math.isfinite(value) else None for name, value in (("mean", mean), ("half", half))}


def best_of(results: Results, metric: Metric) -> dict[str, Any]:
    """The best weight of each method, and by how much NPO's is above the other's, over the seeds that both have."""
    found: dict[str, Any] = {}
    for method, weight in arms_in(results):
        value = spread(values([*results.of(method, weight).values()], metric.name))
        if value["mean"] is not None and (
            method not in found or metric.badness(value["mean"]) < metric.badness(found[method]["mean"])
        ):
            found[method] = {"weight": weight, **value}
    other = next((method for method in (CFG, DOUBLE) if method in found), None)
    if NPO in found and other is not None:
        ours, theirs = (results.of(method, found[method]["weight"]) for method in (NPO, other))
        pairs = [values([ours[seed], theirs[seed]], metric.name) for seed in sorted(ours.keys() & theirs.keys())]
        found["difference"] = {"from": other, **spread([pair[0] - pair[1] for pair in pairs if len(pair) == 2])}
    return found


def best_by_score(results: Results, name: str) -> dict[str, float]:
    """The weight of each method at which a judge's mean score is highest."""
    means: dict[str, tuple[float, float]] = {}
    for method, weight in arms_in(results):
        scores = [score for cell in results.of(method, weight).values() for score in cell["scores"][name]]
        mean = statistics.fmean(-math.inf if score is None else score for score in scores)
        means[method] = max(means.get(method, (-math.inf, weight)), (mean, weight))
    return {method: weight for method, (_, weight) in means.items()}


def preference(results: Results, name: str) -> dict[str, Any] | None:
    """The share of requests whose NPO sample has the higher score than CFG's, ties a half; each at its best weight."""
    weight = best_by_score(results, name)
    if CFG not in weight or NPO not in weight:
        return None
    ours, theirs = (results.of(method, weight[method]) for method in (NPO, CFG))
    shares = []
    for seed in sorted(ours.keys() & theirs.keys()):
        pairs = zip(ours[seed]["scores"][name], theirs[seed]["scores"][name], strict=True)
        known = [(-math.inf if a is None else a, -math.inf if b is None else b) for a, b in pairs]
        shares.append(statistics.fmean((a > b) + (a == b) / 2 for a, b in known))
    return {"CFG": weight[CFG], "NPO": weight[NPO], **spread(shares)}


def show(summary: Mapping[str, Any], task: Task, results: Results) -> None:
    """Prints both tables, the preferences of judges, and the cost of training."""
    console, data = Console(width=150), results.data
    n, steps = data["n"], data["model"]["steps"]
    drawn = "" if data["svdd"] is None else f", SVDD with M = {data['svdd']['M']}"
    shown = [metric for metric in task.metrics if metric.shown]
    table = Table(
        "", "w", "seeds", "rows a sample", *(m.name for m in shown), title=f"{task.name}: n = {n}, K = {steps}{drawn}"
    )
    for arm in summary["arms"]:
        cells = [shown_as(arm["measures"][metric.name]) for metric in shown]
        table.add_row(arm["method"], f"{arm['weight']:g}", str(arm["seeds"]), f"{arm['network_rows'] / n:.1f}", *cells)
    console.print(table)
    methods = [method for method in METHODS if any(arm["method"] == method for arm in summary["arms"])]
    heads = ("at its best weight", "real", *methods, "NPO's less the other's")
    best = Table(*heads, title="means over the seeds ± 95 %, the weight in brackets")
    for name, found in summary["best"].items():
        cells = [weighted(method, found.get(method)) for method in methods]
        real = f"{task.reference[name]:.4g}" if name in task.reference else ""
        best.add_row(name, real, *cells, shown_as(found.get("difference")))
    console.print(best)
    for name, found in summary["preferred"].items():
        weights = f"NPO at {found['NPO']:g}, CFG at {found['CFG']:g}"
        console.print(f"{name} prefers NPO in {shown_as(found)} of the requests ({weights})", highlight=False)
    console.print(training(data["results"]["training"]), highlight=False)


def weighted(method: str, value: Mapping[str, Any] | None) -> str:
    """A mean with the half-width of its interval, and the weight if there are several."""
    return shown_as(value) + ("" if value is None or method in (PLAIN, DOUBLE) else f" ({value['weight']:g})")


def shown_as(value: Mapping[str, Any] | None) -> str:
    """A mean with the half-width of its interval."""
    if value is None or value["mean"] is None:
        return ""
    return f"{value['mean']:.4g}" + ("" if value["half"] is None else f" ± {value['half']:.2g}")
