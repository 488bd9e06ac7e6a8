"""Parameters of a reward as they come from a command line: `name?key=value&key=value`, text to the annotated types."""

__all__ = ["bind", "split_query"]

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from guided.errors import GuidedError, nearest
from guided.scoring.registry import parameters_of

_NEXT = re.compile(r"&(?=[A-Za-z_]\w*=)")  # an & inside a value (SMARTS has them) is not followed by key=


def split_query(text: str) -> tuple[str, dict[str, str]]:
    """`"similarity?target=C[N+]=O&weight=2"` -> `("similarity", {"target": "C[N+]=O", "weight": "2"})`.

    Values are taken as they stand: no percent-decoding, because SMILES have %, + and #.

    Raises:
        GuidedError: a part without `=`, or a key given twice.
    """
    base, mark, query = text.partition("?")
    given: dict[str, str] = {}
    for part in _NEXT.split(query) if mark else []:
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise GuidedError(f"reward {text!r}: expected key=value after '?', given {part!r}")
        if key in given:
            raise GuidedError(f"reward {text!r}: {key!r} is given twice")
        given[key] = value
    return base, given


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
            raise GuidedError(f"reward {label!r} has no parameter {name!r}{nearest(name, known)}; {takes}")
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
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if str in options:
        return text
    if bool in options and text.lower() in ("true", "false", "1", "0"):
        return text.lower() in ("true", "1")
    for kind in (int, float):
        if kind in options or hint is None:
            try:
                return kind(text)
            except ValueError:
                continue
    names = {bool: "true or false", int: "a whole number", float: "a number"}
    wanted = [name for kind, name in names.items() if kind in options]
    if wanted:
        raise GuidedError(f"{where} takes {' or '.join(wanted)}, given {text!r}")
    return text
