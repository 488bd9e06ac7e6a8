"""The protocol of samplers, and samplers by name.

    @register_sampler("beam")
    @dataclass(frozen=True)
    class Beam: ...

All files in this folder are imported with the package, so a new sampler is one file with this decorator. An installed
package adds one by an entry point of the group `guided.samplers`, which is imported when its name is used.
"""

__all__ = ["Sampler", "register_sampler", "resolve_sampler", "sampler_from_dict", "sampler_to_dict", "samplers"]

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, TypeVar

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import GuidedError, nearest
from guided.values.protocol import Value

GROUP = "guided.samplers"
Class = TypeVar("Class", bound=type[Any])


class Sampler(Protocol):
    """A frozen dataclass of plain values, the hyperparameters of its paper.

    If it has a method `check(model)`, runs call it before anything is drawn, so that it can refuse a model.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`. Runs call it without gradients."""
        ...


_table: dict[str, type[Any]] = {}


def register_sampler(name: str) -> Callable[[Class], Class]:
    """Decorator that gives a sampler's dataclass a name, and returns the class unchanged.

    Registering the same class again (a notebook cell that runs twice) replaces it.

    Args:
        name: The name, without spaces or colons.

    Raises:
        GuidedError: The name is malformed, another class has it, or the class is not a dataclass.
    """
    if not name or ":" in name or any(character.isspace() for character in name):
        raise GuidedError(f"a sampler's name has no spaces and no colon, given {name!r}")

    def register(cls: Class) -> Class:
        other = _table.get(name)
        if other is not None and path_of(other) != path_of(cls):
            raise GuidedError(f"sampler {name!r} is already registered by {path_of(other)}")
        _check_dataclass(cls, name)
        _table[name] = cls
        return cls

    return register


def samplers() -> dict[str, type[Any]]:
    """The samplers by name, sorted; those of installed packages are imported.

    Raises:
        GuidedError: An installed sampler cannot be imported.
    """
    return {name: _find(name) for name in sorted({*_table, *_installed()})}


def sampler_to_dict(sampler: Sampler) -> dict[str, Any]:
    """The sampler's name and fields, in plain values."""
    name = next((name for name, cls in _table.items() if type(sampler) is cls), path_of(type(sampler)))
    return {"name": name, **asdict(sampler)}


def sampler_from_dict(description: Mapping[str, Any]) -> Sampler:
    """Rebuilds a sampler.

    Raises:
        GuidedError: The name is unknown, or the sampler has no such field.
    """
    given = dict(description)
    name = given.pop("name", None)
    cls = _find(str(name))
    accepted = [f.name for f in fields(cls)]
    for key in given:
        if key not in accepted:
            takes = ", ".join(accepted) or "nothing"
            raise GuidedError(f"sampler {name!r} has no {key!r}{nearest(key, accepted)}; it takes {takes}")
    sampler: Sampler = cls(**given)
    return sampler


def resolve_sampler(sampler: "str | Mapping[str, Any] | Sampler") -> Sampler:
    """A sampler from its name or its dictionary; an instance is returned unchanged.

    Raises:
        GuidedError: The name is unknown, or the instance is no frozen dataclass.
    """
    if isinstance(sampler, str):
        return sampler_from_dict({"name": sampler})
    if isinstance(sampler, Mapping):
        return sampler_from_dict(sampler)
    if isinstance(sampler, type) or not callable(sampler):
        raise GuidedError(f"sampler is {sampler!r}; it must be a name, a dictionary, or an instance as SVDD(M=10)")
    if not is_dataclass(sampler) or not sampler.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        name = type(sampler).__name__
        raise GuidedError(f"sampler {name!r} is not a frozen dataclass; put @dataclass(frozen=True) above its class")
    return sampler


def path_of(cls: type[Any]) -> str:
    """Where a class is, as `module:Class`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _find(name: str) -> type[Any]:
    """The class of a name: registered, of an installed package, or `module:Class`."""
    if name in _table:
        return _table[name]
    if name in _installed() or ":" in name:
        return _imported(name, _installed().get(name, name))
    known = sorted({*_table, *_installed()})
    raise GuidedError(f"unknown sampler {name!r}{nearest(name, known)}; it is one of {', '.join(known)}")


def _installed() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}


def _imported(name: str, path: str) -> type[Any]:
    module, _, attribute = path.partition(":")
    try:
        cls = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise GuidedError(f"sampler {name!r} cannot be imported: {error}; write module:Class") from error
    return _check_dataclass(cls, name)


def _check_dataclass(cls: Any, name: str) -> type[Any]:
    if not isinstance(cls, type) or not is_dataclass(cls):
        raise GuidedError(f"sampler {name!r} is not a dataclass")
    return cls
