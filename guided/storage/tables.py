"""CSV files, whole and row by row; rows that a kill has truncated are dropped."""

__all__ = ["append_csv", "csv_text", "parse_csv", "read_csv", "read_rows", "write_csv"]

import csv
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from guided.storage.files import write_whole, writing

Json = Any

# A cell with the comma or the end of line after it. Lines end at \n or \r\n only: a lone \r is part of the text.
_CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^,\n]*?))(,|\r?\n|\Z)')


def parse_csv(text: str) -> list[list[str]]:
    """The rows of a CSV text, without a truncated last one.

    A row ends at a line feed, with or without a carriage return before it. Python's reader also ends rows at a lone
    carriage return, which text samples may contain, and refuses cells above 131,072 characters.
    """
    text = text.removeprefix("\ufeff")
    text = text[: text.rfind("\n") + 1]
    rows: list[list[str]] = []
    row: list[str] = []
    place = 0
    while cell := _CELL.match(text, place) if place < len(text) else None:
        quoted, bare, end = cell.groups()
        if quoted is None and bare.startswith('"') and text.count('"', place) % 2:
            break  # the last cell is truncated
        row.append(bare if quoted is None else quoted.replace('""', '"'))
        if end != ",":
            rows.append([] if row == [""] and quoted is None else row)
            row = []
        place = cell.end()
    return rows


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a file, up to the first truncated row; both are empty if there is no file."""
    text = path.read_bytes().decode(errors="ignore") if path.exists() else ""
    header, *rows = parse_csv(text) or [[]]
    torn = next((i for i, row in enumerate(rows) if len(row) != len(header)), len(rows))
    return header, rows[:torn]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file, each as a dictionary by column, up to the first truncated row; empty if there is no file."""
    header, rows = read_csv(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def csv_text(rows: Iterable[Iterable[Json]]) -> str:
    """Rows as lines of a CSV file, which end with a line feed; a cell with a line feed or carriage return is quoted."""
    lines = []
    for row in rows:
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\r\n").writerow(row)  # writes floats with repr
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def write_csv(path: Path, rows: Iterable[Iterable[Json]]) -> None:
    """Writes a file whole: a kill leaves the old file or the new one."""
    write_whole(path, csv_text(rows))


def append_csv(path: Path, header: Iterable[str] | None, rows: Iterable[Iterable[Json]]) -> None:
    """Adds rows to a file, synced.

    Args:
        path: The file.
        header: The header of a new file; None to add to an existing one.
        rows: The rows.

    Raises:
        GuidedError: The disk is full, the folder cannot be written, or the file is gone.
    """
    with writing(path.parent), path.open("r+b" if header is None else "wb") as file:
        file.seek(0, os.SEEK_END)
        file.write(csv_text([*([] if header is None else [header]), *rows]).encode())
        file.flush()
        os.fsync(file.fileno())
