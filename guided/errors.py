"""The errors that a user can cause, each one line that says what was given and what is accepted."""

__all__ = ["GuidedError", "RewardError", "nearest"]

from collections.abc import Iterable
from difflib import get_close_matches


class GuidedError(ValueError):
    """Wrong input. The command line prints its message and exits with 2."""


class RewardError(GuidedError):
    """A reward raised, hung, or returned something that is not one number for each sample."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'qed'?)"` when one of the known names is close to the given one, otherwise nothing."""
    names = {other.lower(): other for other in known}
    close = [names[match] for match in get_close_matches(name.lower(), list(names), n=1)]
    return f" (did you mean {close[0]!r}?)" if close else ""
