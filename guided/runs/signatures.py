"""Signatures, docstring sections and Markdown tables, generated from declared options."""

__all__ = ["described", "signature", "table"]

import inspect

from guided.runs.options import REQUIRED, Declared, options_of


def signature(cls: type, positional: tuple[str, ...] = (), progress: bool = True) -> inspect.Signature:
    """The signature of a function that takes the options; those in `positional` may be positional, in this order."""
    options = {name: it for name, it in options_of(cls).items() if it.type is not type(None)}
    order = [*positional, *(name for name in options if name not in positional)]
    P = inspect.Parameter
    found = [
        P(
            name,
            P.POSITIONAL_OR_KEYWORD if name in positional else P.KEYWORD_ONLY,
            default=P.empty if options[name].default is REQUIRED else options[name].default,
            annotation=options[name].type,
        )
        for name in order
    ]
    if progress:
        found.append(P("progress", P.KEYWORD_ONLY, default=None, annotation="Callable[[Progress], None] | None"))
    return inspect.Signature(found)


def described(cls: type) -> str:
    """The options as the lines of an `Args:` section."""
    lines = [f"        {name}: {_sentence(it)}" for name, it in options_of(cls).items()]
    return "\n".join(["    Args:", *lines, "        progress: Called often with a :class:`Progress`."])


def table(cls: type) -> str:
    """The options as a table in Markdown."""
    rows = ["| argument | default | description |", "|---|---|---|"]
    for name, it in options_of(cls).items():
        default = "" if it.default is REQUIRED else f"`{it.default!r}`"
        rows.append(f"| `{name}` | {default} | {_sentence(it)} |")
    return "\n".join(rows)


def _sentence(declared: Declared) -> str:
    return " ".join(filter(None, (declared.option.help, declared.option.more)))
