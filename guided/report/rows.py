"""Rows of `samples.csv` as the report shows them, whoever wrote the file.

A cell that is missing is empty, a number that cannot be read is nan, and nothing else is assumed of either: run folders
are copied, edited and sent around.
"""

__all__ = [
    "Row",
    "best_rows",
    "load_rows",
    "number",
    "parts_text",
    "prompt_of",
    "prompt_text",
    "request_text",
    "reward_text",
    "rewards_of",
    "sample_of",
    "whole_number",
]

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from guided.errors import GuidedError
from guided.storage import read_rows

Row = Mapping[str, str]
LARGEST = 1e100  # numbers beyond count as infinite: sums and squares of smaller ones do not overflow


def load_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file; none when it is not there.

    Raises:
        GuidedError: It is no CSV file.
    """
    try:
        return read_rows(path)
    except csv.Error as error:
        raise GuidedError(f"{str(path)!r} is no CSV file that can be read: {error}") from error


def number(text: str | None) -> float:
    """The number of a cell; nan for anything else."""
    try:
        found = float(text or "")
    except ValueError:
        return math.nan
    return math.copysign(math.inf, found) if abs(found) > LARGEST else found


def whole_number(text: str | None) -> int | None:
    """The number of a cell if it is a whole one of 0 or more, written in digits."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


def sample_of(row: Row) -> str:
    """The sample; empty where the file has no such column."""
    return row.get("sample", "")


def rewards_of(rows: Iterable[Row]) -> list[float]:
    """The rewards of the rows; none if the run had no reward."""
    return [number(row["reward"]) for row in rows if "reward" in row]


def best_rows(rows: Sequence[Row], n: int, key: Callable[[Row], str] = sample_of) -> list[Row]:
    """The n best rows of distinct samples, by their key, the best first; the first ones if the run had no reward."""
    scored = [row for row in rows if "reward" in row]
    order = sorted(scored, key=_worst_last) or rows
    best: dict[str, Row] = {}
    for row in order:
        best.setdefault(key(row), row)
    return [*best.values()][:n]


def _worst_last(row: Row) -> float:
    reward = number(row["reward"])
    return math.inf if math.isnan(reward) else -reward


def request_text(row: Row) -> str:
    """The request as "#17"; empty where the file has no such column."""
    return f"#{row['request']}" if row.get("request") else ""


def reward_text(row: Row) -> str:
    """The reward in three digits; empty if the run had none."""
    return f"{number(row['reward']):.3f}" if "reward" in row else ""


def parts_text(row: Row) -> str:
    """The raw scores of an objective of several rewards; empty for a single one."""
    terms = [name for name in row if f"{name}_raw" in row]
    return ", ".join(f"{name} {number(row[name + '_raw']):.3g}" for name in terms) if len(terms) > 1 else ""


def prompt_of(run: Mapping[str, Any], request: int | None) -> str | None:
    """The prompt of a request; None in a run without prompts, and for a request that the run does not have."""
    prompt = run["config"].get("prompt")
    if isinstance(prompt, list):
        prompt = prompt[request] if request is not None and request < len(prompt) else None
    return None if prompt is None else str(prompt)


def prompt_text(run: Mapping[str, Any], row: Row) -> str:
    """The prompt of a row's request; empty where there is none."""
    return prompt_of(run, whole_number(row.get("request"))) or ""
