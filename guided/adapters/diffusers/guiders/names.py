"""Guiders by name and parameters, `adaptive-projected?guidance_scale=4&eta=0.5`, and their description in turn."""

__all__ = ["described", "read_guider"]

import copy
import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from guided.adapters.diffusers.quiet import quiet
from guided.errors import GuidedError, check_number, kind_of, nearest, shown
from guided.names import read_value, split_name

#: Of LTX 2 alone, whose pipeline predicts sound beside a video.
OTHERS = ("BaseGuidance", "LTX2Guidance")

#: Where a guider has the layers that it changes.
LAYERS = ("skip_layer_config", "auto_guidance_config", "seg_guidance_config")


def read_guider(given: Any) -> Any:
    """A guider of diffusers: a copy of an object, or one by its name and parameters.

    Args:
        given: A guider; its name, in small letters and without "Guidance", or its class's, and parameters after `?`; or
            a mapping with the name and the parameters.

    Raises:
        GuidedError: The name or a parameter is unknown, or the guider cannot be made.
    """
    from diffusers.guiders.guider_utils import BaseGuidance

    if isinstance(given, BaseGuidance):
        return _repaired(copy.deepcopy(given))
    if isinstance(given, str):
        name, texts = split_name(given, f"guider {given!r}", "parameter=value")
        return _made(name, {key: _value(text) for key, text in texts.items()})
    if not isinstance(given, Mapping) or "name" not in given:
        raise GuidedError(
            f"guider is {kind_of(given)}; it must be a guider of diffusers, a name as 'adaptive-projected', or a "
            "mapping with its name and parameters"
        )
    parameters = dict(given)
    return _made(str(parameters.pop("name")), parameters)


def described(guider: Any) -> dict[str, Any]:
    """The name and the parameters of a guider, JSON-able, as :func:`read_guider` takes them."""
    names = {kind: name for name, kind in _kinds().items()}
    own = f"{type(guider).__module__}:{type(guider).__qualname__}"
    found = {"name": names.get(type(guider), own)}
    for key, value in getattr(guider, "config", vars(guider)).items():  # one of one's own may have no config
        if key.startswith("_"):
            continue
        now = vars(guider).get(key, value)  # which somebody may have set
        found[key] = _plain(now if _is_number(now) and _is_number(value) else value)
    return found | {"enabled": bool(guider._enabled)}


def _kinds() -> dict[str, Any]:
    """The classes of guiders by name."""
    import diffusers.guiders as library
    from diffusers.guiders.guider_utils import BaseGuidance

    kinds = [kind for kind in vars(library).values() if isinstance(kind, type) and kind.__name__ not in OTHERS]
    own = {kind.__name__: kind for kind in kinds if issubclass(kind, BaseGuidance)}
    return {_short(name): kind for name, kind in sorted(own.items())}


def _short(name: str) -> str:
    """`AdaptiveProjectedGuidance` -> `adaptive-projected`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name.removesuffix("Guidance")).lower()


def _made(name: str, parameters: dict[str, Any]) -> Any:
    kinds = _kinds()
    kind = kinds.get(name) or kinds.get(_short(name))
    if kind is None:
        raise GuidedError(f"unknown guider {shown(name)}{nearest(name, kinds)}; it is one of {', '.join(kinds)}")
    known = {key: p for key, p in inspect.signature(kind.__init__).parameters.items() if key != "self"}
    for key, value in parameters.items():
        if key not in known:
            raise GuidedError(f"guider {name!r} has no {key!r}{nearest(key, known)}; it takes {', '.join(known)}")
        parameters[key] = _checked(f"{key} of guider {name!r}", value, known[key].default)
    try:
        with quiet():
            return _repaired(kind(**parameters))
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise GuidedError(f"guider {name!r}: {' '.join(str(error).split())}") from error


def _checked(what: str, value: Any, default: Any) -> Any:
    """The value; a number where the default is one, unless there is one for each of several levels."""
    if not isinstance(default, int | float) or isinstance(value, list | tuple):
        return value
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise GuidedError(f"{what} is {shown(value)}; it must be true or false")
        return value
    if value is None and "momentum" in what:
        return None
    return check_number(what, value, type(default))


def _value(text: str) -> Any:
    value = read_value(text)
    try:
        return float(value) if isinstance(value, str) else value  # .5 is no JSON
    except ValueError:
        return value


def _repaired(guider: Any) -> Any:
    """The guider, with lists of layers where diffusers makes a single number of `skip_layer_guidance_layers`."""
    for name in LAYERS:
        for config in getattr(guider, name, None) or ():
            if isinstance(config.indices, int):
                config.indices = [config.indices]
    return guider


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, str | int | float) else repr(value)
