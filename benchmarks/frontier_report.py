"""Areas, tables and pictures of the frontier's runs."""

__all__ = ["COSTS", "area", "areas", "show"]

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

COSTS = ("calls", "rows", "seconds")
T975 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}  # of s - 1
SHOWN = ("median", *COSTS, "judge", "log_likelihood", "nearest", "unique", "valid")

Row = Mapping[str, str]


def area(points: Sequence[tuple[float, float]], low: float, high: float, floor: float) -> float:
    """The mean of the best reward so far over the logarithm of the cost, between two costs; it is a staircase.

    Args:
        points: Costs and rewards of runs.
        low: The lower cost, above 0.
        high: The higher one.
        floor: The reward of a budget that does not pay for the cheapest run.
    """
    total, best, at = 0.0, floor, math.log(low)
    for cost, reward in sorted(points):
        if low < cost < high:
            total, at = total + best * (math.log(cost) - at), math.log(cost)
        if cost < high:
            best = max(best, reward)
    return (total + best * (math.log(high) - at)) / (math.log(high) - math.log(low))


def areas(rows: Sequence[Row], cost: str) -> dict[str, tuple[float, float]]:
    """For each sampler the mean and the half interval of its area over seeds, from the cheapest run to the dearest.

    A budget that does not pay for a sampler's cheapest run has the reward of the model alone, or if that was not drawn,
    of the worst run.
    """
    guided = [row for row in rows if row["sampler"] != "unguided"]
    low, high = (f([float(row[cost]) for row in guided], default=0.0) for f in (min, max))
    if not 0 < low < high:
        return {}
    by: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in guided:
        point = (float(row[cost]), float(row["median"]))
        by.setdefault(row["sampler"], {}).setdefault(row["seed"], []).append(point)
    alone = {row["seed"]: float(row["median"]) for row in rows if row["sampler"] == "unguided"}
    worst = min(float(row["median"]) for row in guided)
    found = {}
    for name, seeds in by.items():
        each = [area(points, low, high, alone.get(seed, worst)) for seed, points in seeds.items()]
        found[name] = (statistics.fmean(each), half_interval(each))
    return dict(sorted(found.items(), key=lambda it: -it[1][0]))


def half_interval(each: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean; nan of one number."""
    if len(each) < 2:
        return math.nan
    return T975.get(len(each) - 1, 1.96) * statistics.stdev(each) / len(each) ** 0.5


def show(rows: Sequence[Row], out: Path) -> None:
    """Prints a table and the areas of each task, and draws its curves."""
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        print(f"\n{task}, n = {own[0]['n']}, {len({row['seed'] for row in own})} seeds\n\n{table(own)}\n")
        for cost in COSTS:
            cells = [f"{name} {mean:.4g} ± {half:.2g}" for name, (mean, half) in areas(own, cost).items()]
            print(f"area by {cost}: " + "; ".join(cells))
        picture(task, own, out / f"{task}.png")


def table(rows: Sequence[Row]) -> str:
    """The means over seeds of each sampler and size, in Markdown."""
    lines = [f"| sampler | size | {' | '.join(SHOWN)} |", "|" + "---|" * (len(SHOWN) + 2)]
    for (name, size), group in grouped(rows).items():
        cells = []
        for field in SHOWN:
            known = [float(row[field]) for row in group if row[field] not in ("", "nan")]
            cells.append(f"{statistics.fmean(known):.4g}" if known else "")
        lines.append(f"| `{name}` | {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


def grouped(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The runs of each sampler and size."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: int(row["size"])):
        groups.setdefault((row["sampler"], row["size"]), []).append(row)
    names = [*dict.fromkeys(row["sampler"] for row in rows)]
    return dict(sorted(groups.items(), key=lambda it: names.index(it[0][0])))


def picture(task: str, rows: Sequence[Row], path: Path) -> None:
    """The median reward of each sampler by each cost, averaged over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for number, cost in enumerate(COSTS, 1):
        axes = figure.add_subplot(1, 3, number, xscale="log", xlabel=f"{cost} a sample", ylabel="median reward")
        curves: dict[str, list[tuple[float, float]]] = {}
        for (name, _), group in grouped(rows).items():
            x, y = (statistics.fmean(float(row[field]) for row in group) for field in (cost, "median"))
            curves.setdefault(name, []).append((max(x, 1e-9), y))
        for name, points in curves.items():
            if name == "unguided":
                axes.axhline(points[0][1], color="#a9adb3", lw=1, label=name)
            else:
                axes.plot(*zip(*sorted(points), strict=True), marker="o", ms=3, lw=1.2, label=name)
        axes.set_title(task)
    figure.axes[0].legend(fontsize=6)
    figure.savefig(path, dpi=150)
