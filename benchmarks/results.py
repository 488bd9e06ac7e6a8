"""A table of runs that grows by a line for each, so that a command goes on where it was stopped."""

__all__ = ["append", "read"]

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guided.errors import GuidedError


def append(path: Path, row: Mapping[str, Any], fields: Sequence[str]) -> None:
    """Adds a line to the file, which has these columns, and prints it.

    Raises:
        GuidedError: The file has other columns.
    """
    new = not path.exists()
    if not new and (line := path.read_text().partition("\n")[0]) != ",".join(fields):
        raise GuidedError(f"{path} has the columns {line}, and not {','.join(fields)}; name another folder")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            writer.writeheader()
        writer.writerow(row)
    cells = (f"{key} {value:.4g}" if isinstance(value, float) else str(value) for key, value in row.items())
    print(", ".join(cells), flush=True)


def read(path: Path) -> list[dict[str, str]]:
    """The lines of the file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
