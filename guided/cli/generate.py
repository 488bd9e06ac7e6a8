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
    return typer.Option(
        *(option.flags or (declared.flag,)),
        help=f"{option.help} Default: {default}." if shown else option.help,
        metavar=option.metavar,
        rich_help_panel=option.panel,
        show_default=False,
    )
