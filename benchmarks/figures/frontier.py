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


def task(of: str, *weights: str) -> Measurement:
    """Five seeds of a task."""
    command = f"benchmarks/frontier.py {of} --samplers unguided,{SAMPLERS} --out {{out}}"
    return Measurement(f"frontier_{of}", weights, {of: {"commands": [command]}}, script(rows_of), minutes=90)


def tables(measurement: Measurement, columns: Mapping[str, str], digits: int) -> tuple[Table, Table]:
    """That of the sizes, with these columns between the sampler's and the costs, and that of the areas."""
    return (
        Table(measurement, {**CHAINS, **columns, **SPENT}, entry="size"),
        Table(measurement, areas_of(digits), entry="area", name=f"{measurement.name}_areas"),
    )


def of_molecules(median: str, judge: str) -> dict[str, str]:
    """The columns of a task of molecules, by the names of the reward's median and of the judge."""
    return {median: "{median:.3f}", judge: "{judge:.2f}", "nearest": "{nearest:.2f}"}


SAMPLERS = "best-of-n,svdd,beam,block-best-of-n,elite,smc"
SPENT = {"calls": "{calls:,.0f}", "rows": "{rows:,.0f}", "seconds": "{seconds:.1f}"}
CHAINS = {"sampler": name, "chains": lambda row: "" if row["sampler"] == "unguided" else str(row["size"])}
OF_DNA = {"median": "{median:.2f}", "judge": "{judge:.2f}", "log-likelihood": "{log_likelihood:.0f}"}

TABLES = (
    *tables(task("hepg2", "dna", "dna_oracle"), OF_DNA, 2),
    *tables(task("similarity", "molecules"), of_molecules("median", "QED"), 3),
    *tables(task("qed", "molecules"), of_molecules("median QED", "SA"), 4),
    *tables(task("jpeg", "images"), {"median, kB": "{median:.2f}"}, 2),
    *tables(task("colour", "images"), {"median": "{median:.1f}"}, 1),
)
