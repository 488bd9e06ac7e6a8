"""Numbers that may change over the steps, and the steps that look ahead: what all samplers share."""

__all__ = ["Schedule", "at", "check_choice", "check_interval", "check_schedule", "look_ahead_steps"]

from collections.abc import Iterable
from typing import Any, TypeAlias

from guided.core.process import Process
from guided.errors import GuidedError, Number, check_number, nearest

Schedule: TypeAlias = Number | tuple[Number, ...]


def at(schedule: Schedule[Number], k: int, K: int) -> Number:
    """The number at step `k` of `K`: a tuple is spread evenly over the steps, so one of `K` entries names each."""
    return schedule[k * len(schedule) // K] if isinstance(schedule, tuple) else schedule


def look_ahead_steps(process: Process, every: int, interval: tuple[float, float]) -> set[int]:
    """The steps at which candidates are compared; at the others the step is the model's own.

    Candidates of a step without noise are equal, so there is nothing to compare. The last step that has noise is always
    among them if it lies in the interval, and `every` counts back from it.

    Args:
        process: The reverse chain.
        every: Every j-th step looks ahead.
        interval: The part of the run, from 0 (noise) to 1 (data), in which steps look ahead: [start, end).
    """
    K, (start, end) = process.steps, interval
    noisy = [k for k in range(K) if process.stochastic(k)]
    return {k for k in noisy if (noisy[-1] - k) % every == 0 and start <= k / K < end}


def check_choice(name: str, given: Any, known: Iterable[str]) -> None:
    """Refuses a name that is not among those known.

    Raises:
        GuidedError: It is not.
    """
    if given not in (known := list(known)):
        raise GuidedError(f"{name} is {given!r}{nearest(str(given), known)}; it is one of {', '.join(known)}")


def check_interval(interval: Any) -> tuple[float, float]:
    """The interval as two floats.

    Raises:
        GuidedError: It is not two numbers with 0 <= start < end <= 1.
    """
    if not isinstance(interval, tuple | list) or len(interval) != 2:
        raise GuidedError(f"interval is {interval!r}; it must be two numbers")
    start, end = (check_number("interval", bound, float, least=0) for bound in interval)
    if not start < end <= 1:
        raise GuidedError(f"interval is {interval}; it must be two numbers with 0 <= start < end <= 1")
    return start, end


def check_schedule(name: str, schedule: Any, number: type[Number], least: float) -> Schedule[Number]:
    """The schedule, with lists made tuples and every entry of its type.

    Raises:
        GuidedError: An entry has another type, is not finite, or is below the least number; or there is no entry.
    """
    if isinstance(schedule, list | tuple):
        if not schedule:
            raise GuidedError(f"{name} is an empty schedule; it needs at least one number")
        return tuple(check_number(name, entry, number, least) for entry in schedule)
    return check_number(name, schedule, number, least)
