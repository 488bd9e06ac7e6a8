"""The errors that a user can cause, each one line that says what was given and what is accepted."""

__all__ = ["GuidedError", "RewardError", "check_whole", "nearest"]

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class GuidedError(ValueError):
    """Wrong input. The command line prints its message and exits with 2."""


class RewardError(GuidedError):
    """A reward raised, hung, or returned something that is not one number for each sample."""


def check_whole(name: str, number: Any, least: int = 1) -> int:
    """The number itself.

    Raises:
        GuidedError: It is no whole number, or below the least.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise GuidedError(f"{name} is {number!r}; it must be a whole number, at least {least}")
    return number


def nearest(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'qed'?)"` when one of the known names is close to the given one, otherwise nothing."""
    names = {other.lower(): other for other in known}
    close = [names[match] for match in get_close_matches(name.lower(), list(names), n=1)]
    return f" (did you mean {close[0]!r}?)" if close else ""
