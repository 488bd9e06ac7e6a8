"""Pipelines by the name of a repository, or in a folder with `model_index.json`."""

__all__ = ["load"]

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from guided.adapters.diffusers.families import FAMILIES
from guided.adapters.diffusers.identity import fingerprint
from guided.adapters.diffusers.index import check_folder, check_index
from guided.adapters.diffusers.loops.call import Call
from guided.adapters.diffusers.lora import add_lora
from guided.adapters.diffusers.parts import check_loaded, left_out
from guided.adapters.diffusers.quiet import quiet
from guided.adapters.diffusers.solvers import check_named
from guided.adapters.diffusers.wrapping import wrap
from guided.checkpoints.torch_files import reason_of
from guided.core.compiling import check_compile, compiled
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError, check_number, nearest, shown

OFFLOADS = ("none", "model", "sequential")


@dataclass(frozen=True)
class Loading:
    """How a pipeline is read and placed.

    Args:
        scheduler: Another scheduler of diffusers by its class, or entries of the configuration to change, with the
            class as "class": `{"timestep_spacing": "trailing"}`.
        lora: Files or repositories of LoRA weights.
        lora_scale: Their weight.
        variant: The variant of the weights' files, "fp16".
        compile: How the network is compiled: "default", or on a GPU "graph"; None for not at all.
        offload: What is kept in the CPU's memory until it is used: "none", "model" (networks), or "sequential" (their
            layers).
        slicing: Whether the decoder takes images one by one.
        tiling: Whether it takes them in tiles.

    Raises:
        GuidedError: An option has a wrong type, or an unknown value.
    """

    scheduler: Mapping[str, Any] | str | None = None
    lora: str | Sequence[str] = ()
    lora_scale: float = 1.0
    variant: str | None = None
    compile: str | None = None
    offload: str = "none"
    slicing: bool = False
    tiling: bool = False

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            hint = nearest(str(self.offload), OFFLOADS)
            raise GuidedError(f"offload is {shown(self.offload)}{hint}; it is one of {', '.join(OFFLOADS)}")
        for name in ("slicing", "tiling"):
            if not isinstance(getattr(self, name), bool):
                raise GuidedError(f"{name} is {shown(getattr(self, name))}; it must be true or false")
        for name, types, accepted in (
            ("scheduler", str | Mapping | None, "a class of diffusers, or entries to change"),
            ("variant", str | None, "a name, as fp16"),
        ):
            if not isinstance(getattr(self, name), types):
                raise GuidedError(f"{name} is {shown(getattr(self, name))}; it must be {accepted}")
        object.__setattr__(self, "lora_scale", check_number("lora_scale", self.lora_scale, float))
        object.__setattr__(self, "lora", self._names())

    def _names(self) -> Sequence[str]:
        names = [self.lora] if isinstance(self.lora, str) else self.lora
        if not isinstance(names, list | tuple) or not all(isinstance(name, str | Path) for name in names):
            accepted = "it must be the name of a file or repository, or a list of them"
            raise GuidedError(f"lora is {shown(self.lora)}; {accepted}")
        return names


def load(
    folder: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype, **options: Any
) -> Diffusion:
    """The pipeline in a folder, or of a repository by its name.

    Args:
        folder: The folder, or the name as in `Path("stabilityai/stable-diffusion-xl-base-1.0")`.
        config: Not used: pipelines have an index of their own.
        device: Where the networks go.
        dtype: Their precision.
        options: Those of :class:`Loading`, and of :func:`guided.adapters.diffusers.wrapping.wrap`.

    Raises:
        GuidedError: There is no such folder, a part is missing, the class of the pipeline or an option is unknown, or
            the repository cannot be downloaded.
    """
    own = {field.name for field in fields(Loading)}
    how = Loading(**{name: value for name, value in options.items() if name in own})
    if how.offload != "none" and device.type == "cpu":
        raise GuidedError(f"offload is {how.offload!r}, but the device is the CPU: there is nothing to offload from")
    compilation = check_compile(how.compile, device)
    pipeline = _read(folder, dtype, how.variant)
    _reschedule(pipeline, how.scheduler)
    if isinstance(how.scheduler, str) or "class" in (how.scheduler or {}):
        check_named(options.get("eta"), pipeline.scheduler)
    for name in how.lora:
        add_lora(pipeline, name, how.lora_scale)
    identity = fingerprint(pipeline.components)  # now: offloaded weights have no entries to read
    _place(pipeline, device, how.offload)
    _save_memory(pipeline, how)
    if compilation:
        part = _part(pipeline)
        setattr(pipeline, part, compiled(getattr(pipeline, part), compilation))
    rest = {name: value for name, value in options.items() if name not in own}
    return wrap(pipeline, **rest, folder=folder if folder.is_dir() else None, identity=identity)


def _part(pipeline: Any) -> str:
    """The name of the network that is compiled."""
    name = type(pipeline).__name__
    return FAMILIES[name].component if name in FAMILIES else Call(pipeline).part


def _parameters() -> list[inspect.Parameter]:
    """The options of `load`, one by one, so that their names can be checked."""
    first = [p for p in inspect.signature(load).parameters.values() if p.kind is not p.VAR_KEYWORD]
    wrapped = [p for p in inspect.signature(wrap).parameters.values() if p.name not in _INNER]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(Loading).parameters.values()]
    return [*first, *wrapped, *own]


_INNER = ("pipeline", "steps", "folder", "identity")  # set by `load`, not options of it
_load: Any = load
_load.__signature__ = inspect.Signature(_parameters())


def _save_memory(pipeline: Any, how: Loading) -> None:
    for name in ("slicing", "tiling"):
        if not getattr(how, name):
            continue
        if not hasattr(getattr(pipeline, "vae", None), f"enable_{name}"):
            raise GuidedError(f"{name} is for a decoder that can do so; {type(pipeline).__name__} has none")
        getattr(pipeline.vae, f"enable_{name}")()


def _read(folder: Path, dtype: torch.dtype, variant: str | None) -> Any:
    try:
        import diffusers
        import transformers  # noqa: F401  diffusers' own message does not say how to install it here
    except ImportError as error:
        raise ImportError(f"pipelines need diffusers: pip install guided ({error})") from error
    pipeline_class: Any = diffusers.DiffusionPipeline
    if folder.is_dir():
        check_folder(folder)
    try:
        with quiet() as heard:
            index = pipeline_class.load_config(str(folder))
            given = left_out(index["_class_name"], check_index(index, str(folder)), str(folder))
            pipeline = pipeline_class.from_pretrained(str(folder), torch_dtype=dtype, variant=variant, **given)
        check_loaded(pipeline, heard, str(folder))
        return pipeline
    except GuidedError:
        raise
    except Exception as error:  # from the hub, a file or a part, of any class
        where = "" if folder.is_dir() else "there is no such folder, and it cannot be downloaded as a repository: "
        raise GuidedError(f"cannot load the pipeline {str(folder)!r}: {where}{reason_of(error)}") from error


def _reschedule(pipeline: Any, scheduler: Mapping[str, Any] | str | None) -> None:
    if scheduler is None:
        return
    import diffusers

    entries: dict[str, Any] = {"class": scheduler} if isinstance(scheduler, str) else dict(scheduler)
    own = type(pipeline.scheduler)
    scheduler_class = getattr(diffusers, str(entries.pop("class", own.__name__)), None)
    if scheduler_class is None or not hasattr(scheduler_class, "set_timesteps"):
        raise GuidedError(f"scheduler is {scheduler!r}: diffusers has no such class (an example is DDIMScheduler)")
    known = pipeline.scheduler.config.keys() | inspect.signature(scheduler_class.__init__).parameters
    for name in entries:
        if name not in known:
            raise GuidedError(f"{scheduler_class.__name__} has no entry {name!r}{nearest(name, sorted(known))}")
    try:
        pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **entries)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise GuidedError(f"scheduler {scheduler!r}: {error}") from error


def _place(pipeline: Any, device: torch.device, offload: str) -> None:
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
