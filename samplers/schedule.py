"""Numbers that may change over the steps."""

__all__ = ["Schedule", "at", "check_schedule"]

from typing import Any, TypeAlias

from guided.errors import GuidedError, Number, check_number

Schedule: TypeAlias = Number | tuple[Number, ...]


def at(schedule: Schedule[Number], k: int, K: int) -> Number:
    """The number at step `k` of `K`: a tuple is spread evenly over the steps, so one of `K` entries names each."""
    return schedule[k * len(schedule) // K] if isinstance(schedule, tuple) else schedule


def check_schedule(name: str, schedule: Any, kind: type[Number], least: float) -> Schedule[Number]:
    """The schedule, with lists made tuples and every entry a number of its kind.

    Raises:
        ValueError: An entry is no number of this kind, not finite, or below the least one; or there is no entry.
    """
    if isinstance(schedule, list | tuple):
        if not schedule:
            raise GuidedError(f"{name} is an empty schedule; it needs at least one number")
        return tuple(check_number(name, entry, kind, least) for entry in schedule)
    return check_number(name, schedule, kind, least)
