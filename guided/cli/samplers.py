"""The command `guided samplers`: what there is, and what the hyperparameters of one are."""

__all__ = ["describe", "meanings", "overview"]

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields

from guided.cli.console import show_table
from guided.errors import GuidedError, nearest
from guided.samplers import samplers


def overview() -> None:
    """Shows all samplers with their hyperparameters."""
    rows = []
    for name, kind in samplers().items():
        takes = ", ".join(f.name if f.default is MISSING else f"{f.name}={f.default}" for f in fields(kind))
        rows.append((name, _text((kind.__doc__ or "").split("\n")[0]), takes))
    show_table(("sampler", "description", "hyperparameters"), rows)


def describe(name: str) -> None:
    """Shows what one sampler does, and what its hyperparameters mean.

    Raises:
        GuidedError: There is no such sampler.
    """
    known: Mapping[str, type] = samplers()
    if name not in known:
        raise GuidedError(f"there is no sampler {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    kind = known[name]
    text = inspect.getdoc(kind) or ""
    print(_text(text.split("\n\nArgs:\n")[0].split("\n\nRaises:\n")[0]) + "\n")
    found = meanings(kind)
    rows = [(f.name, "" if f.default is MISSING else f.default, found.get(f.name, "")) for f in fields(kind)]
    show_table(("hyperparameter", "default", "meaning"), rows)


def meanings(kind: type) -> dict[str, str]:
    """What the hyperparameters of a class mean, by name; where it says nothing of one, what its base says."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        found |= _arguments(inspect.cleandoc(each.__doc__ or ""))
    return found


def _arguments(doc: str) -> dict[str, str]:
    """What the arguments of a docstring mean, by name."""
    part = re.search(r"^Args:\n((?:    .*\n?|\n)*)", doc, re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", part.group(1) if part else "", re.MULTILINE)
    return {name: _text(" ".join(text.split())) for name, text in entries}


def _text(doc: str) -> str:
    """A docstring as plain text."""
    return doc.replace(":math:", "").replace(":mod:", "").replace("\\", "").replace("`", "")
