"""Measures what is missing or stale, and writes the tables of the documents; see __init__.py."""

import time
from typing import Annotated

import typer

from benchmarks.figures.measured import ROOT, load, run, stale
from benchmarks.figures.recipe import Measurement, Missing
from benchmarks.figures.render import BLOCK, documents, written
from benchmarks.figures.tables import TABLES
from guided.errors import GuidedError, one_line
from guided.storage import write_whole

Run = tuple[Measurement, str, str, float]  # its label, why it is to be measured, and in about how many minutes


def chosen(only: list[str]) -> list[Measurement]:
    """The measurements of these names, tables or documents; all if there are none.

    Raises:
        GuidedError: There is no such name.
    """
    of_documents = {
        str(path.relative_to(ROOT)): [name for name, _ in BLOCK.findall(path.read_text(encoding="utf-8"))]
        for path in documents()
    }
    names = {name for word in only for name in of_documents.get(word, [word])}
    known = {name: table.measurement for name, table in TABLES.items()}
    known |= {table.measurement.name: table.measurement for table in TABLES.values()}
    for name in names:
        if name not in known:
            raise GuidedError(f"there is no {name!r}; there are {', '.join(known)}, and the documents with tables")
    return list({known[name].name: known[name] for name in known if name in names or not names}.values())


def left(measurements: list[Measurement], again: bool = False) -> list[Run]:
    """The runs to be measured, why, and in about how many minutes; all of them `again`."""
    runs = []
    for measurement in measurements:
        there = load(measurement)
        for label in measurement.runs:
            if why := stale(measurement, label, there.get(label)) or ("again" if again else ""):
                minutes = there.get(label, {}).get("minutes") or measurement.minutes
                runs.append((measurement, label, why, minutes))
    return runs


def render() -> None:
    """Writes the blocks of all documents."""
    for path in documents():
        text = path.read_text(encoding="utf-8")
        if (new := written(text, TABLES)) != text:
            write_whole(path, new)
            print(f"wrote the tables of {path.relative_to(ROOT)}; see whether the sentences around them still hold")


def show(runs: list[Run]) -> None:
    """Prints what is to be measured, and in how many minutes."""
    for name in dict.fromkeys(measurement.name for measurement, *_ in runs):
        own = [run for run in runs if run[0].name == name]
        why, of = ", ".join(dict.fromkeys(run[2] for run in own)), len(own[0][0].runs)
        print(f"{sum(run[3] for run in own):6.1f} minutes  {name}: {len(own)} of {of} runs ({why})")
    print(
        f"{sum(run[3] for run in runs):6.1f} minutes in all; what is not measured here: benchmarks/figures/outside.py"
    )


def measure(runs: list[Run], minutes: float) -> None:
    """Measures the runs in their order until the time is over."""
    end = time.monotonic() + 60 * minutes
    for number, (measurement, label, why, _) in enumerate(runs):
        if time.monotonic() > end:
            print(f"{minutes:g} minutes are over; {len(runs) - number} runs are left, the same command goes on")
            return
        print(f"{measurement.name}, {label} ({why})", flush=True)
        try:
            print(f"  {run(measurement, label)['rows']}", flush=True)
        except Missing as missing:
            print(f"  left out: {missing}", flush=True)


def main(
    only: Annotated[list[str] | None, typer.Argument(help="Measurements, tables or documents; all if none.")] = None,
    minutes: Annotated[float, typer.Option(help="No run begins after so many.")] = float("inf"),
    list_: Annotated[bool, typer.Option("--list", help="Only show what is stale.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what is not stale.")] = False,
    render_: Annotated[bool, typer.Option("--render", help="Only write the tables.")] = False,
) -> None:
    """Measures what is missing or stale, and writes the tables of the documents."""
    with one_line():
        runs = left(chosen(only or []), again)
        if list_:
            return show(runs)
        if not render_:
            measure(runs, minutes)
        render()


if __name__ == "__main__":
    typer.run(main)
