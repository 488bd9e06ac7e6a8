"""How much reward each sampler gives for how much compute, by benchmarks/frontier.py."""

__all__ = ["TABLES"]

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.figures.draw import script
from benchmarks.figures.recipe import Measurement, Row, Table
from benchmarks.frontier_report import COSTS, areas, grouped
from benchmarks.results import read

MEANS = ("median", *COSTS, "judge", "log_likelihood", "nearest")


def rows_of(out: Path) -> list[Row]:
    """The means over seeds of each sampler and size, then the area of each sampler, the mean and half its interval."""
    runs = read(out / "results.csv")
    rows: list[Row] = [
        {
            "sampler": name,
            "size": int(size),
            **{entry: known(group, entry) for entry in MEANS},
        }
        for (name, size), group in grouped(runs).items()
    ]
    by = {cost: areas(runs, cost) for cost in COSTS}
    return rows + [{"sampler": name, "area": {cost: by[cost][name] for cost in COSTS}} for name in by["calls"]]


def known(group: Sequence[Mapping[str, str]], entry: str) -> float | None:
    """The mean of the numbers that there are."""
    numbers = [float(row[entry]) for row in group if row[entry] not in ("", "nan")]
    return statistics.fmean(numbers) if numbers else None


def name(row: Row) -> str:
    """The sampler's."""
    return row["sampler"] if row["sampler"] == "unguided" else f"`{row['sampler']}`"


def areas_of(digits: int) -> dict[str, str | Callable[[Row], str]]:
    """The columns of a table of areas."""
    columns: dict[str, str | Callable[[Row], str]] = {"area by": name}
    for cost in COSTS:
        columns[cost] = f"{{area[{cost}][0]:.{digits}f}} ± {{area[{cost}][1]:.{digits}f}}"
    return columns


def task(of: str, weights: tuple[str, ...], samplers: str) -> Measurement:
    """Five seeds of a task."""
    command = f"benchmarks/frontier.py {of} --samplers unguided,{samplers} --out {{out}}"
    return Measurement(f"frontier_{of}", weights, {of: {"commands": [command]}}, script(rows_of), minutes=90)


SAMPLERS = "best-of-n,svdd,beam,block-best-of-n,elite,smc"
HEPG2 = task("hepg2", ("dna", "dna_oracle"), SAMPLERS)
SIMILARITY = task("similarity", ("molecules",), SAMPLERS)
JPEG = task("jpeg", ("images",), SAMPLERS)
COLOUR = task("colour", ("images",), SAMPLERS)
QED = task("qed", ("molecules",), SAMPLERS)

SPENT = {"calls": "{calls:,.0f}", "rows": "{rows:,.0f}", "seconds": "{seconds:.1f}"}
CHAINS = {"sampler": name, "chains": lambda row: "" if row["sampler"] == "unguided" else str(row["size"])}
TABLES = (
    Table(
        HEPG2,
        {
            **CHAINS,
            "median": "{median:.2f}",
            "judge": "{judge:.2f}",
            "log-likelihood": "{log_likelihood:.0f}",
            **SPENT,
        },
        entry="size",
    ),
    Table(
        SIMILARITY,
        {**CHAINS, "median": "{median:.3f}", "QED": "{judge:.2f}", "nearest": "{nearest:.2f}", **SPENT},
        entry="size",
    ),
    Table(HEPG2, areas_of(2), entry="area", name="frontier_hepg2_areas"),
    Table(SIMILARITY, areas_of(3), entry="area", name="frontier_similarity_areas"),
    Table(JPEG, {**CHAINS, "median, kB": "{median:.2f}", **SPENT}, entry="size"),
    Table(COLOUR, {**CHAINS, "median": "{median:.1f}", **SPENT}, entry="size"),
    Table(
        QED,
        {**CHAINS, "median QED": "{median:.3f}", "SA": "{judge:.2f}", "nearest": "{nearest:.2f}", **SPENT},
        entry="size",
    ),
    Table(JPEG, areas_of(2), entry="area", name="frontier_jpeg_areas"),
    Table(COLOUR, areas_of(1), entry="area", name="frontier_colour_areas"),
    Table(QED, areas_of(4), entry="area", name="frontier_qed_areas"),
)
