"""Samplers by name, and as dictionaries that can be written to a file."""

__all__ = ["Sampler", "resolve_sampler", "sampler_from_dict", "sampler_to_dict", "samplers"]

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import GuidedError, nearest
from guided.samplers.best_of_n import BestOfN
from guided.samplers.svdd import SVDD
from guided.samplers.unguided import Unguided
from guided.values.protocol import Value


class Sampler(Protocol):
    """A frozen dataclass of plain values, the letters of its paper."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request, with shape `(B, 1, *event)`."""
        ...


_SAMPLERS: dict[str, type[Any]] = {"svdd": SVDD, "best-of-n": BestOfN, "unguided": Unguided}


def samplers() -> dict[str, type[Any]]:
    """The samplers by name."""
    return dict(_SAMPLERS)


def sampler_to_dict(sampler: Sampler) -> dict[str, Any]:
    """The sampler's name and fields, in plain values."""
    for name, kind in _SAMPLERS.items():
        if type(sampler) is kind:
            return {"name": name, **asdict(sampler)}
    return {"name": f"{type(sampler).__module__}:{type(sampler).__qualname__}", **asdict(sampler)}


def sampler_from_dict(description: Mapping[str, Any]) -> Sampler:
    """Rebuilds a sampler.

    Raises:
        ValueError: The name is unknown, or the sampler has no such field.
    """
    given = dict(description)
    name = given.pop("name", None)
    if isinstance(name, str) and ":" in name:
        return _own(name)(**given)
    if name not in _SAMPLERS:
        raise GuidedError(f"unknown sampler {name!r}{nearest(str(name), _SAMPLERS)}; known are {', '.join(_SAMPLERS)}")
    kind = _SAMPLERS[name]
    accepted = [f.name for f in fields(kind)]
    for key in given:
        if key not in accepted:
            takes = ", ".join(accepted) or "nothing"
            raise GuidedError(f"sampler {name!r} has no {key!r}{nearest(key, accepted)}; it takes {takes}")
    sampler: Sampler = kind(**given)
    return sampler


def _own(name: str) -> type[Any]:
    """A sampler of the user's, by `module:Class`."""
    module, _, attribute = name.partition(":")
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise GuidedError(f"sampler {name!r} cannot be imported: {error}") from error
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise GuidedError(f"sampler {name!r} is no dataclass")
    return kind


def resolve_sampler(sampler: "str | Mapping[str, Any] | Sampler") -> Sampler:
    """A sampler from its name, its dictionary, or itself.

    Raises:
        ValueError: The name is unknown.
    """
    if isinstance(sampler, str):
        return sampler_from_dict({"name": sampler})
    if isinstance(sampler, Mapping):
        return sampler_from_dict(sampler)
    if isinstance(sampler, type) or not callable(sampler):
        raise GuidedError(f"sampler is {sampler!r}; it must be a name, a dictionary, or an instance as SVDD(M=10)")
    return sampler
