"""A pipeline object as a `Diffusion`: by the class of its family, by its own loop, or as one of text."""

__all__ = ["wrap"]

import inspect
from collections.abc import Callable
from typing import Any

from guided.adapters.diffusers.adapter import wrap_family
from guided.adapters.diffusers.families import FAMILIES
from guided.adapters.diffusers.guiders import with_guider
from guided.adapters.diffusers.loops import wrap_loop
from guided.adapters.diffusers.loops.call import adapted
from guided.adapters.diffusers.text import REFUSED, TEXT, wrap_text
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError, nearest, shown


def wrap(pipeline: Any, *, loop: bool | None = None, guider: Any = None, **options: Any) -> Diffusion:
    """A pipeline as a model. Its modules are shared, frozen and put into evaluation mode.

    Args:
        pipeline: A `DiffusionPipeline`, on its device.
        loop: Whether its own loop is the denoiser (:func:`guided.adapters.diffusers.loops.wrap_loop`), instead of the
            class of its family (:func:`guided.adapters.diffusers.adapter.wrap_family`); None for where it has no such
            class, has an IP-Adapter, or is given `pipe_args`. Pipelines of text have a way of their own
            (:func:`guided.adapters.diffusers.text.wrap_text`).
        guider: A guider of diffusers, as :func:`guided.adapters.diffusers.guiders.with_guider` takes it.
        options: Those of the three.

    Raises:
        GuidedError: The pipeline cannot be a model that way, or does not take an option.
    """
    name = type(pipeline).__name__
    if loop is not None and not isinstance(loop, bool):
        raise GuidedError(f"loop is {shown(loop)}; it must be true or false")
    if name in REFUSED:
        raise GuidedError(f"{name} cannot be a model: {REFUSED[name]}")
    if name in TEXT and loop:
        raise GuidedError(f"{name} has a loop of tokens, which cannot be one of latents; leave out loop")
    if loop is None:
        loop = name not in FAMILIES or bool(options.get("pipe_args")) or adapted(pipeline)
    make, way = _ways(name, loop)
    known = [key for key, p in inspect.signature(make).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for key in [key for key, value in options.items() if key not in known]:
        if options[key] is not None:
            raise GuidedError(f"{name} {way} has no option {key!r}{nearest(key, known)}; it takes {', '.join(known)}")
        del options[key]
    model = make(pipeline, **options)
    return model if guider is None else with_guider(model, guider)


def _ways(name: str, loop: bool) -> tuple[Callable[..., Diffusion], str]:
    """What makes a model of a pipeline, and how that is called in messages."""
    if name in TEXT:
        return wrap_text, "as text"
    return (wrap_loop, "by its own loop") if loop else (wrap_family, "as a family (loop=false)")


def _parameters() -> list[inspect.Parameter]:
    """The options of all ways, one by one, so that their names can be checked."""
    found: dict[str, inspect.Parameter] = {}
    for function in (wrap, wrap_family, wrap_loop, wrap_text):
        known = inspect.signature(function).parameters.items()
        found |= {name: p for name, p in known if name not in found and p.kind is not p.VAR_KEYWORD}
    return list(found.values())


_wrap: Any = wrap
_wrap.__signature__ = inspect.Signature(_parameters())
