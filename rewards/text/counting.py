"""What can be counted in a text: its words or characters, and where a regular expression matches."""

__all__ = ["length", "matches"]

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

from guided.errors import GuidedError, nearest
from guided.scoring.registry import register_reward

Unit = Literal["words", "characters"]
How = Literal["any", "all", "count", "share"]


def _check_unit(unit: str = "words") -> None:
    if unit not in get_args(Unit):
        raise GuidedError(f"unit is {unit!r}{nearest(unit, get_args(Unit))}; it is one of {', '.join(get_args(Unit))}")


@register_reward("length", modality="text", check=_check_unit)
def length(texts: Sequence[str], unit: Unit = "words") -> list[float]:
    """The length of a text.

    Args:
        texts: n texts.
        unit: "words", which spaces separate, or "characters".

    Raises:
        GuidedError: There is no such unit.
    """
    _check_unit(unit)
    return [float(len(text.split() if unit == "words" else text)) for text in texts]


def _check_pattern(pattern: str, how: str = "any") -> None:
    if how not in get_args(How):
        raise GuidedError(f"how is {how!r}{nearest(how, get_args(How))}; it is one of {', '.join(get_args(How))}")
    _compiled(pattern)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise GuidedError(f"pattern is {pattern!r}, which is no regular expression: {error}") from error


@register_reward("regex", modality="text", check=_check_pattern)
def matches(texts: Sequence[str], pattern: str, how: How = "any") -> list[float]:
    """How a regular expression matches a text.

    Args:
        texts: n texts.
        pattern: The expression, in Python's syntax. One that backtracks without end is stopped by `time_limit`.
        how: "any", 1 where it matches somewhere and 0 elsewhere; "all", 1 where it matches the whole text; "count", the
            number of matches that do not overlap; "share", the share of the characters that these cover.

    Raises:
        GuidedError: It is no expression, or there is no such way.
    """
    _check_pattern(pattern, how)
    return [_score(_compiled(pattern), text, how) for text in texts]


def _score(pattern: re.Pattern[str], text: str, how: str) -> float:
    if how == "any":
        return float(pattern.search(text) is not None)
    if how == "all":
        return float(pattern.fullmatch(text) is not None)
    sizes = [len(match[0]) for match in pattern.finditer(text)]
    return float(len(sizes)) if how == "count" else sum(sizes) / max(1, len(text))
