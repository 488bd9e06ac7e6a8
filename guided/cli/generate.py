"""Commands built from declared options, so that no command repeats its list of parameters."""

__all__ = ["command"]

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from guided.errors import GuidedError
from guided.runs.options import REQUIRED, SAME, Declared, members, spelling


def command(
    app: typer.Typer,
    name: str,
    options: Mapping[str, Declared],
    run: Callable[[dict[str, Any]], None],
    examples: tuple[str, ...] = (),
) -> None:
    """Adds a command to an application.

    Args:
        app: The application.
        name: The command's name.
        options: Its options; "model" is an argument.
        run: Called with the options that were given, by name. Its docstring is the help.
        examples: Lines of the help.
    """
    shown = {key: it for key, it in options.items() if it.option.shell is not None}
    flags = {key: it.flag for key, it in shown.items() if key != "model"}

    def body(**values: Any) -> None:
        given = {key: value for key, value in values.items() if value is not None}
        for key, it in shown.items():
            if it.shell_default is REQUIRED and key not in given and key != "model":
                raise GuidedError(f"Missing option '{it.flag}'")
        with spelling(flags):
            for key, value in given.items():
                _check_number(shown[key], value, flags.get(key, key))
            run(given)

    hints = {key: Annotated[_type(it) | None, _parameter(it)] for key, it in shown.items()}
    body.__annotations__ = hints
    body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
            for key, hint in hints.items()
        ]
    )
    body.__doc__ = run.__doc__
    app.command(name, epilog="\n\n".join(["Examples:", *examples]) if examples else None)(body)


def _type(declared: Declared) -> Any:
    """The type on the command line."""
    if declared.option.shell is not SAME:
        return declared.option.shell
    return next(kind for kind in members(declared.type) if kind is not type(None))


def _parameter(declared: Declared) -> Any:
    option = declared.option
    if declared.name == "model":
        return typer.Argument(metavar="MODEL", help=option.help, show_default=False)
    default = declared.shell_default
    shown = default is not REQUIRED and default not in (None, []) and not isinstance(default, bool)
    numeric = _numeric(declared)
    return typer.Option(
        *(option.flags or (declared.flag,)),
        help=f"{option.help} Default: {default}." if shown else option.help,
        metavar=option.metavar or {int: "INTEGER", float: "FLOAT"}.get(numeric),
        rich_help_panel=option.panel,
        show_default=False,
        parser=None if numeric is None else _number(numeric),
    )


def _numeric(declared: Declared) -> Any:
    """The type of an option that is a number, otherwise None."""
    return _type(declared) if _type(declared) in (int, float) else None


def _number(kind: type[int] | type[float]) -> Callable[[str], Any]:
    """Reads a number; hands on a text that is none, for :func:`_check_number`."""

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            return text

    return read


def _check_number(declared: Declared, value: Any, spelled: str) -> None:
    """Raises GuidedError, in the words of the option's own check, for a text that is no number."""
    if isinstance(value, str) and _numeric(declared) is not None:
        try:
            declared.option.checked(value, _numeric(declared))
        except ValueError as error:
            raise GuidedError(f"{spelled} {error}") from None
