"""What the annotations of a pipeline's arguments accept, as far as they tell."""

__all__ = ["accepts", "described"]

import inspect
import sys
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import torch

#: What a class is called in a message.
WORDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    np.ndarray: "an array",
    torch.Tensor: "a tensor",
}


def accepts(annotation: Any, value: Any) -> bool:
    """Whether a value may be given for an argument; true where the annotation does not tell.

    None always may; a list, where its entries may; a tuple, an array or a tensor, where a list may.
    """
    if value is None or not _is_plain(value):
        return True
    alternatives = _alternatives(annotation)
    if isinstance(value, list | tuple) and value and all(accepts(annotation, entry) for entry in value):
        return True
    return not alternatives or any(_accepts(one, value) for one in alternatives)


def described(annotation: Any) -> str:
    """What is accepted, in words, as "a number, or a list of these"."""
    alternatives = [one for one in _alternatives(annotation) if one is not NoneType]
    words = dict.fromkeys(_word(one, alternatives) for one in alternatives)
    *first, last = words
    return f"{', '.join(first)}, or {last}" if first else last


def _is_plain(value: Any) -> bool:
    """Whether a value is of a kind that annotations tell apart: text, a number, a list, a table or an image."""
    return isinstance(value, str | int | float | list | tuple | Mapping) or _is_image(value)


def _is_image(value: Any) -> bool:
    library = sys.modules.get("PIL.Image")  # without this import there are no images
    return library is not None and isinstance(value, library.Image)


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union; none if anything goes."""
    if annotation in (inspect.Parameter.empty, Any, object) or isinstance(annotation, str):
        return []
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    found: list[Any] = []
    for one in get_args(annotation):
        inner = _alternatives(one)
        if not inner:
            return []
        found += inner
    return found


def _accepts(one: Any, value: Any) -> bool:
    kind = get_origin(one) or one
    if kind is Literal:
        return value in get_args(one)
    if not isinstance(kind, type):
        return True
    if issubclass(kind, list | tuple):
        inner = [entry for entry in get_args(one) if entry is not Ellipsis]
        listed = isinstance(value, list | tuple)
        return listed and all(not inner or any(accepts(entry, own) for entry in inner) for own in value)
    if kind in (int, float):
        wanted = (int,) if kind is int else (int, float)
        return isinstance(value, wanted) and not isinstance(value, bool)
    return isinstance(value, Mapping if issubclass(kind, dict) else kind)


def _word(one: Any, others: Sequence[Any]) -> str:
    kind, inner = get_origin(one) or one, get_args(one)
    if kind is Literal:
        return " or ".join(map(repr, inner))
    if not isinstance(kind, type) or kind in WORDS:
        return WORDS.get(kind, str(one))
    if issubclass(kind, list | tuple):
        known = bool(inner) and all(entry in others for entry in inner if entry is not Ellipsis)
        return "a list of these" if known else f"a list of {_many(inner)}"
    if issubclass(kind, dict):
        return "a table"
    return "an image" if kind.__name__ == "Image" else f"a {kind.__name__}"


def _many(inner: Sequence[Any]) -> str:
    """What the entries of a list are."""
    words: dict[Any, str] = {float: "numbers", int: "whole numbers", str: "texts"}
    return words.get(inner[0] if inner else None, "values")
