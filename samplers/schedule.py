"""Numbers that may change over the steps."""

__all__ = ["Schedule", "at", "check_schedule"]

from typing import Any, TypeAlias, TypeVar

Number = TypeVar("Number", int, float)
Schedule: TypeAlias = Number | tuple[Number, ...]


def at(schedule: Schedule[Number], k: int, K: int) -> Number:
    """The number at step `k` of `K`: a tuple is spread evenly over the steps, so one of `K` entries names each."""
    return schedule[k * len(schedule) // K] if isinstance(schedule, tuple) else schedule


def check_schedule(name: str, schedule: Any, kind: type, least: float) -> Any:
    """The schedule, with lists made tuples and whole numbers made floats where floats are meant.

    Raises:
        ValueError: An entry is no number of this kind, not finite, or below the least one; or there is no entry.
    """
    if isinstance(schedule, list | tuple):
        if not schedule:
            raise ValueError(f"{name} is an empty schedule; it needs at least one number")
        return tuple(check_schedule(name, entry, kind, least) for entry in schedule)
    number = isinstance(schedule, int | float) and not isinstance(schedule, bool)
    if not number or (kind is int and int(schedule) != schedule) or not least <= schedule < float("inf"):
        what = "a whole number" if kind is int else "a finite number"
        raise ValueError(f"{name} is {schedule!r}; it must be {what}, at least {least}")
    return kind(schedule)
