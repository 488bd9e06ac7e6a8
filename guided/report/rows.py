"""Rows of `samples.csv` as the report shows them."""

__all__ = ["best_rows", "parts_text", "reward_text", "rewards_of"]

from collections.abc import Callable, Iterable, Mapping, Sequence

Row = Mapping[str, str]


def rewards_of(rows: Iterable[Row]) -> list[float]:
    """The rewards of the rows; none if the run had no reward."""
    return [float(row["reward"]) for row in rows if "reward" in row]


def best_rows(rows: Sequence[Row], n: int, key: Callable[[Row], str] = lambda row: row["sample"]) -> list[Row]:
    """The n best rows of distinct samples, by their key, the best first; the first ones if the run had no reward."""
    scored = [row for row in rows if "reward" in row]
    order = sorted(scored, key=lambda row: -float(row["reward"])) or rows
    best: dict[str, Row] = {}
    for row in order:
        best.setdefault(key(row), row)
    return [*best.values()][:n]


def reward_text(row: Row) -> str:
    """The reward in three digits; empty if the run had none."""
    return f"{float(row['reward']):.3f}" if "reward" in row else ""


def parts_text(row: Row) -> str:
    """The raw scores of an objective of several rewards; empty for a single one."""
    terms = [name for name in row if f"{name}_raw" in row]
    return ", ".join(f"{name} {float(row[name + '_raw']):.3g}" for name in terms) if len(terms) > 1 else ""
