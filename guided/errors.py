"""Errors of the user. Each is one line that says what was given and what is accepted."""

__all__ = [
    "SAMPLES_FAULT",
    "GuidedError",
    "RewardError",
    "check_flag",
    "check_number",
    "check_texts",
    "fail",
    "is_finite",
    "nearest",
    "one_line",
    "out_of_memory",
    "shown",
]

import math
import re
import reprlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

Number = TypeVar("Number", int, float)


WORD, LINE = 300, 4000  # the largest number of characters of a word, and of a message
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


class GuidedError(ValueError):
    """Wrong input. The command line prints its message and exits with 2.

    Very long words and messages are shortened, as when data are given in place of a file name.
    """

    def __init__(self, message: object = "", *more: object) -> None:
        text = re.sub(rf"\S{{{WORD},}}", lambda word: f"{word[0][:80]}…{word[0][-20:]}", str(message))
        super().__init__(text if len(text) <= LINE else f"{text[: LINE // 2]} … {text[-LINE // 4 :]}", *more)


#: What a sample raises again at every try; a connection, a program or a device may do better another time.
SAMPLES_FAULT: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
)


class RewardError(GuidedError):
    """A reward raised, hung, or returned something that is not one number for each sample."""


def check_number(
    name: str,
    value: Any,
    kind: type[Number],
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Number:
    """The number as a Python number. Numbers of numpy, torch or pandas, and whole floats for `int`, are accepted.

    Args:
        name: Its name in the message.
        value: The given value.
        kind: `int` for whole numbers, `float` for finite ones.
        least: The lower bound, included.
        most: The upper bound, included.
        above: The lower bound, excluded.
        below: The upper bound, excluded.

    Raises:
        GuidedError: It is not such a number, or out of bounds.
    """
    number = _plain(value)
    within = (
        number is not None
        and is_finite(number)
        and (kind is float or number == int(number))
        and (least is None or number >= least)
        and (most is None or number <= most)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    if number is None or not within:
        bounds = (("at least", least), ("at most", most), ("above", above), ("below", below))
        words = ["a whole number" if kind is int else "a finite number"]
        words += [f"{word} {bound}" for word, bound in bounds if bound is not None]
        given = repr(value) if number is None or is_finite(number) or isinstance(number, float) else "too large"
        raise GuidedError(f"{name} is {given}; it must be {', '.join(words)}")
    return kind(number)


def check_flag(name: str, value: Any) -> bool:
    """The value, which is true or false.

    Raises:
        GuidedError: It is something else.
    """
    if not isinstance(value, bool):
        raise GuidedError(f"{name} is {shown(value)}; it must be true or false")
    return value


def is_finite(number: float) -> bool:
    """Whether a number is finite as a float: neither infinite nor nan, nor a whole number beyond 1.8e308."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def check_texts(name: str, value: Any) -> str | list[str | None] | None:
    """A text, or a list of texts in which None may stand, from what numpy and pandas hold them in, too.

    Raises:
        GuidedError: An entry is no text.
    """
    if value is None or isinstance(value, str):
        return value if value is None else str(value)
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, list | tuple):
        raise GuidedError(f"{name} is {kind_of(value)}; it must be a text, or a list with one for each sample")
    for i, entry in enumerate(value):
        if not isinstance(entry, str | None):
            raise GuidedError(f"{name}[{i}] is {entry!r}; it must be a text, or None for no prompt")
    return [entry if entry is None else str(entry) for entry in value]


def _plain(value: Any) -> int | float | None:
    """The value as a Python number; None if it is not a single number, as text, bools and longer arrays."""
    if isinstance(value, int | float):
        return None if isinstance(value, bool) else value
    if getattr(value, "shape", None) != () or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        found = value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
    return found if isinstance(found, int | float) else None


def kind_of(value: object) -> str:
    """The type of a value, as in "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def shown(value: object) -> str:
    """The repr of a value, shortened for messages."""
    try:
        return _REPR.repr(value)
    except ValueError:  # a whole number of more than 4300 digits
        return kind_of(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'qed'?)"` if one of the known names is close to the given one, otherwise `""`."""
    names = {other.lower(): other for other in known}
    close = [names[match] for match in get_close_matches(name.lower(), list(names), n=1)]
    return f" (did you mean {close[0]!r}?)" if close else ""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, on the host or on a device."""
    kinds = {kind.__name__ for kind in type(error).__mro__}  # torch is not imported for this
    if kinds & {"MemoryError", "OutOfMemoryError"}:
        return True
    said = [part.lower() for part in error.args if isinstance(part, str)] if isinstance(error, RuntimeError) else []
    text = " ".join(said)
    return any(sign in text for sign in ("out of memory", "can't allocate memory", "alloc_failed"))


@contextmanager
def one_line() -> Iterator[None]:
    """Turns errors of the user into one line on standard error and exit code 2, as in the programs of examples/."""
    try:
        yield
    except GuidedError as error:
        fail(error)
    except ImportError as error:
        if "pip install" not in str(error):  # not one of our messages about a missing package
            raise
        fail(error)


def fail(error: object) -> NoReturn:
    """Ends the program with one line on standard error and exit code 2."""
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    sys.exit(2)
