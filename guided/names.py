"""Names with options, `name?key=value&key=value`, as for models, rewards, negative checkpoints; and `--set` pairs."""

__all__ = ["read_value", "split_name", "split_pair"]

import json
import re
from typing import Any

from guided.errors import GuidedError

_NEXT = re.compile(r"&(?=[A-Za-z_]\w*=)")  # an & inside a value (SMARTS has them) is not followed by key=


def split_pair(text: str) -> tuple[str, str] | None:
    """`"key=value"` -> `("key", "value")`; None if the text does not have this form."""
    key, equals, value = text.partition("=")
    return (key, value) if key and equals else None


def split_name(text: str, what: str, form: str = "key=value", loose: bool = True) -> tuple[str, dict[str, str]]:
    """`"similarity?target=C[N+]=O&weight=2"` -> `("similarity", {"target": "C[N+]=O", "weight": "2"})`.

    Values are taken as they stand: no percent-decoding, because SMILES have %, + and #.

    Args:
        text: The name with its options.
        what: The beginning of error messages.
        form: The form of an option, in error messages.
        loose: Whether an `&` that no `key=` follows is part of the value.

    Raises:
        GuidedError: A part has no `=`, or a key is given twice.
    """
    base, mark, query = text.partition("?")
    given: dict[str, str] = {}
    for part in (_NEXT.split(query) if loose else query.split("&")) if mark else []:
        pair = split_pair(part)
        if pair is None:
            raise GuidedError(f"{what}: expected {form} after '?', each option once, given {part!r}")
        if pair[0] in given:
            raise GuidedError(f"{what}: {pair[0]!r} is given twice; expected {form} after '?', each option once")
        given[pair[0]] = pair[1]
    return base, given


def read_value(text: str) -> Any:
    """The value of an option: parsed as JSON, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text
