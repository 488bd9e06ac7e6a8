"""Parameters of a reward as they come from a command line: text to the annotated types."""

__all__ = ["bind"]

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from guided.errors import GuidedError, nearest
from guided.scoring.registry import parameters_of


def bind(function: Callable[..., Any], given: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The given parameters as values of the types that the function declares.

    Raises:
        GuidedError: the function does not take one, needs another, or a text is not of the type.
    """
    known = parameters_of(function)
    anything = any(p.kind is p.VAR_KEYWORD for p in known.values())
    known = {name: p for name, p in known.items() if p.kind is not p.VAR_KEYWORD}
    for name in given:
        if name not in known and not anything:
            takes = f"it takes {', '.join(map(str, known.values()))}" if known else "it takes none"
            raise GuidedError(f"reward {label!r} has no parameter {name[:80]!r}{nearest(name[:80], known)}; {takes}")
    missing = [name for name, p in known.items() if p.default is p.empty and name not in given]
    if missing:
        raise GuidedError(f'reward {label!r} needs {missing[0]!r}: write "{label}?{missing[0]}=VALUE"')
    hints = _hints(function)
    return {
        name: _convert(value, hints.get(name), known.get(name), f"reward {label!r}: {name}")
        if isinstance(value, str)
        else value
        for name, value in given.items()
    }


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # an annotation that does not evaluate is no reason to refuse the reward
        return {}


def _convert(text: str, hint: Any, parameter: inspect.Parameter | None, where: str) -> Any:
    if hint is None and parameter is not None and isinstance(parameter.default, (bool, int, float, str)):
        hint = type(parameter.default)
    if typing.get_origin(hint) is typing.Literal:
        return _choice(text, typing.get_args(hint), where)
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if str in options:
        return text
    if bool in options and text.lower() in ("true", "false", "1", "0"):
        return text.lower() in ("true", "1")
    for kind in (int, float):
        if kind in options or hint is None:
            try:
                number = kind(text)
                if isfinite(number) or hint is None:
                    return number
            except (ValueError, OverflowError):  # no number, or one beyond all floats
                continue
    names = {bool: "true or false", int: "a whole number", float: "a finite number"}
    wanted = [name for kind, name in names.items() if kind in options]
    if wanted:
        raise GuidedError(f"{where} takes {' or '.join(wanted)}, given {text[:80]!r}")
    return text


def _choice(text: str, choices: tuple[Any, ...], where: str) -> Any:
    found = [choice for choice in choices if str(choice) == text]
    if not found:
        raise GuidedError(f"{where} is one of {', '.join(map(str, choices))}, given {text[:80]!r}")
    return found[0]
