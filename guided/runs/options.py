"""Options, each declared once: as a field of a dataclass, annotated with an :class:`Option`.

    n: Annotated[int, Option("The number of samples.", panel="Run", flags=("-n",), least=1)] = 1

The fields give the check of a value, the Python signature, the command line, the entries of a file, and the table of
the README. Errors spell an option as the user wrote it: `n` in Python and in a file, `-n` on the command line.
"""

__all__ = [
    "REQUIRED",
    "SAME",
    "Config",
    "Declared",
    "Option",
    "members",
    "options_of",
    "spelled",
    "spelling",
]

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

from guided.errors import GuidedError, check_number, is_finite, nearest, shown
from guided.runs.paths import nameable

SAME: Any = type("SAME", (), {"__repr__": lambda self: "SAME"})()  # as in Python
REQUIRED: Any = type("REQUIRED", (), {"__repr__": lambda self: "REQUIRED"})()  # has no default
Made = TypeVar("Made", bound="Config")
_SPELLING: ContextVar[Mapping[str, str] | None] = ContextVar("spelling", default=None)


@contextmanager
def spelling(names: Mapping[str, str]) -> Iterator[None]:
    """Inside, errors spell options by this mapping, as in `{"n": "-n"}`."""
    token = _SPELLING.set(names)
    try:
        yield
    finally:
        _SPELLING.reset(token)


def spelled(name: str) -> str:
    """An option as errors spell it."""
    return (_SPELLING.get() or {}).get(name, name)


@dataclass(frozen=True)
class Option:
    """The properties of an option besides its name, type and default.

    Args:
        help: A line of help.
        panel: The panel of the help that shows it.
        flags: Its names on the command line; empty for `--its-name`.
        metavar: The placeholder for its value in the help.
        unit: The unit of a number.
        least: The lower bound, included.
        most: The upper bound, included.
        above: The lower bound, excluded.
        below: The upper bound, excluded.
        choices: The accepted words; empty for any.
        more: A sentence about what Python accepts besides.
        shell: The type on the command line; SAME as in Python, None for no option there.
        shell_default: The default on the command line; SAME as in Python, REQUIRED for none.
        entry: When it is part of the configuration that a folder is resumed by: "always", "given" (only if it differs
            from the default), or "" (never).
        recorded: Whether the options that repeat a run, in `run.json`, include it.
    """

    help: str
    panel: str = "Run"
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    unit: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    more: str = ""
    shell: Any = SAME
    shell_default: Any = SAME
    entry: str = "given"
    recorded: bool = True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The check of the type, after that of numbers, choices and paths."""
        return core_schema.no_info_before_validator_function(lambda value: self.checked(value, source), handler(source))

    def checked(self, value: Any, source: Any) -> Any:
        """The value, converted to the type; raises ValueError with a message without the option's name."""
        accepted = members(source)
        if value is None and type(None) in accepted:
            return None
        if accepted - {type(None)} <= {int, float}:
            return self._number(value, int if int in accepted else float)
        if self.choices and value not in self.choices:
            raise ValueError(f"is {value!r}; it is one of {', '.join(self.choices)}")
        if Path in accepted and isinstance(value, str | Path):
            return Path(value).expanduser() if nameable(value) else _no_name(value)
        return value

    def _number(self, value: Any, kind: type[int] | type[float]) -> int | float:
        bounds = {"least": self.least, "above": self.above, "most": self.most, "below": self.below}
        if kind is float or not isinstance(value, float):  # 2.0 is not accepted as a whole number
            with suppress(GuidedError):
                return check_number("", value, kind, **bounds)
        words = {"least": "at least", "most": "at most", "above": "above", "below": "below"}
        limits = [f"{words[key]} {_bound(bound)}" for key, bound in bounds.items() if bound is not None]
        what = "a whole number" if kind is int else "a finite number"
        known = kind is float or _SPELLING.get()  # a command line has checked the type
        if isinstance(value, int) and not is_finite(value):
            raise ValueError(f"is too large; it must be {', '.join([what, *limits])} {self.unit}".rstrip())
        if known and isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value):
            both = self.least is not None and self.most is not None
            within = f"in [{self.least:.15g}, {self.most:.15g}]" if both else " and ".join(limits)
            raise ValueError(f"is {value!r}; it must be {within} {self.unit}".rstrip())
        raise ValueError(f"is {value!r}; it must be {', '.join([what, *limits])} {self.unit}".rstrip())


def _no_name(path: str | Path) -> Path:
    raise ValueError(f"is {shown(str(path))}; no file can have this name")


def _bound(bound: float) -> str:
    return "2^64" if bound == 2**64 else f"{bound:.15g}"


@dataclass(frozen=True)
class Declared:
    """An option, as declared by a field."""

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """The name of the option on the command line."""
        if self.option.flags:
            return self.option.flags[0].partition("/")[0]
        return f"-{self.name}" if len(self.name) == 1 else f"--{self.name.replace('_', '-')}"

    @property
    def shell_default(self) -> Any:
        """The default on the command line."""
        return self.default if self.option.shell_default is SAME else self.option.shell_default


class Config:
    """The base class of dataclasses of options, and of dataclasses of these. They are checked at construction."""

    def __post_init__(self) -> None:
        cls: Any = type(self)
        for name, hint in _hints(cls).items():
            if _option(hint) is not None:
                object.__setattr__(self, name, _check(cls, name, getattr(self, name)))
        self.check()

    def check(self) -> None:
        """Checks that involve several options."""

    @classmethod
    def of(cls: type[Made], **values: Any) -> Made:
        """Makes the description from options by name, of all its parts; the rest have their defaults."""
        given, own, known = {}, cast("Any", cls), options_of(cls)
        for name in values:
            if name not in known:
                raise GuidedError(f"there is no option {name!r}{nearest(name, known)}; it is one of {', '.join(known)}")
        for name, hint in _hints(own).items():
            if _part(hint) is not None:
                given[name] = hint.of(**{key: values[key] for key in options_of(hint) if key in values})
            elif name in values:
                given[name] = values[name]
        return cls(**given)

    def values(self) -> dict[str, Any]:
        """All options by name."""
        found: dict[str, Any] = {}
        cls: Any = type(self)
        for name, hint in _hints(cls).items():
            value = getattr(self, name)
            found |= value.values() if _part(hint) is not None else {name: value}
        return found


def options_of(*classes: type) -> dict[str, Declared]:
    """The options that dataclasses and their parts declare, by name."""
    found: dict[str, Declared] = {}
    for cls in classes:
        defaults = {field.name: _default(field) for field in fields(cls)}
        for name, hint in _hints(cls).items():
            option, part = _option(hint), _part(hint)
            if option is not None:
                found[name] = Declared(name, get_args(hint)[0], defaults[name], option)
            elif part is not None:
                found |= options_of(part)
    return found


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return REQUIRED if field.default is MISSING else field.default


def _check(cls: type, name: str, value: Any) -> Any:
    try:
        return _adapter(cls, name).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        own = first.get("ctx", {}).get("error")
        accepted = first["msg"].replace("Input should be", "it must be")
        accepted = "it must be a path" if first["type"] == "path_type" else accepted
        wrong = str(own) if own else f"is {value!r}; {accepted}"
        raise GuidedError(f"{spelled(name)} {wrong}") from None


@cache
def _adapter(cls: Any, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(cls)[name], config=ConfigDict(arbitrary_types_allowed=True))


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def _option(hint: Any) -> Option | None:
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, Option)), None)


def _part(hint: Any) -> Any:
    return hint if isinstance(hint, type) and is_dataclass(hint) else None


def members(source: Any) -> set[Any]:
    """The types of a union, or the type itself."""
    return set(get_args(source)) if get_origin(source) in (Union, types.UnionType) else {source}
