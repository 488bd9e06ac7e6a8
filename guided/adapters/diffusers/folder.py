"""Pipelines by the name of a repository, or in a folder with `model_index.json`."""

__all__ = ["load"]

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from guided.adapters.diffusers.adapter import fingerprint, wrap
from guided.adapters.diffusers.families import FAMILIES
from guided.adapters.diffusers.index import check_folder, check_index
from guided.adapters.diffusers.lora import add_lora
from guided.adapters.diffusers.quiet import quiet
from guided.checkpoints.torch_files import reason_of
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError, check_number, nearest, shown

OFFLOADS = ("none", "model", "sequential")


def load(
    folder: Path,
    config: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    *,
    eta: float = 1.0,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    lookahead: Any = "full",
    micro_batch: int | None = None,
    scheduler: Mapping[str, Any] | str | None = None,
    lora: str | Sequence[str] = (),
    lora_scale: float = 1.0,
    distilled: float | None = None,
    variant: str | None = None,
    compile: bool = False,
    offload: str = "none",
    slicing: bool = False,
    tiling: bool = False,
) -> Diffusion:
    """The pipeline in a folder, or of a repository by its name.

    Args:
        folder: The folder, or the name as in `Path("stabilityai/stable-diffusion-xl-base-1.0")`.
        config: Not used: pipelines have an index of their own.
        device: Where the networks go.
        dtype: Their precision.
        eta: The share of fresh noise of a step, from 0 to 1.
        height: In pixels; None for the pipeline's own.
        width: In pixels; None for the pipeline's own.
        frames: The number of frames of a video; None for the pipeline's own.
        lookahead: How look-aheads are decoded: "full", "tiny", a factor, or a name or folder
            (:func:`guided.adapters.diffusers.lookahead.preview`).
        micro_batch: Rows that the network and the decoder are given at a time; None for 16, and 8 for the
            decoder where rows are small.
        scheduler: Another scheduler of diffusers by its class, or entries of the configuration to change, with the
            class as "class": `{"timestep_spacing": "trailing"}`.
        lora: Files or repositories of LoRA weights.
        lora_scale: Their weight.
        distilled: The guidance that a distilled network (Flux) is told; None for 3.5.
        variant: The variant of the weights' files, "fp16".
        compile: Whether the network is compiled.
        offload: What waits in the CPU's memory: "none", "model" (networks), or "sequential" (their layers).
        slicing: Whether the decoder takes images one by one.
        tiling: Whether it takes them in tiles.

    Raises:
        ValueError: There is no such folder, a part is missing, the class of the pipeline or an option is unknown, or
            the repository is not there and cannot be asked for.
    """
    _check_options(scheduler, lora, variant, offload, {"compile": compile, "slicing": slicing, "tiling": tiling})
    lora_scale = check_number("lora_scale", lora_scale, float)
    if offload != "none" and device.type == "cpu":
        raise GuidedError(f"offload is {offload!r}, but the device is the CPU: there is nothing to offload from")
    pipeline = _read(folder, dtype, variant)
    _reschedule(pipeline, scheduler)
    for name in [lora] if isinstance(lora, str) else lora:
        add_lora(pipeline, name, lora_scale)
    identity = fingerprint(pipeline.components)  # now: what is offloaded has no entries to look at
    _place(pipeline, device, offload)
    for name, asked in (("slicing", slicing), ("tiling", tiling)):
        if asked and not hasattr(getattr(pipeline, "vae", None), f"enable_{name}"):
            raise GuidedError(f"{name} is for a decoder that can do so; {type(pipeline).__name__} has none")
        if asked:
            getattr(pipeline.vae, f"enable_{name}")()
    if compile:
        part = FAMILIES[type(pipeline).__name__].component
        setattr(pipeline, part, torch.compile(getattr(pipeline, part)))
    return wrap(
        pipeline,
        eta=eta,
        height=height,
        width=width,
        frames=frames,
        lookahead=lookahead,
        micro_batch=micro_batch,
        distilled=distilled,
        folder=folder if folder.is_dir() else None,
        identity=identity,
    )


def _check_options(scheduler: Any, lora: Any, variant: Any, offload: Any, switches: Mapping[str, Any]) -> None:
    """Says early what is of another type than an option takes.

    Raises:
        GuidedError: It is.
    """
    if offload not in OFFLOADS:
        hint = nearest(str(offload), OFFLOADS)
        raise GuidedError(f"offload is {shown(offload)}{hint}; it is one of {', '.join(OFFLOADS)}")
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise GuidedError(f"{name} is {shown(value)}; it must be true or false")
    if not isinstance(scheduler, str | Mapping | None):
        raise GuidedError(f"scheduler is {shown(scheduler)}; it must be a class of diffusers, or entries to change")
    if not isinstance(variant, str | None):
        raise GuidedError(f"variant is {shown(variant)}; it must be a name, as fp16")
    names = [lora] if isinstance(lora, str) else lora
    if not isinstance(names, list | tuple) or not all(isinstance(name, str | Path) for name in names):
        raise GuidedError(f"lora is {shown(lora)}; it must be the name of a file or repository, or a list of them")


def _read(folder: Path, dtype: torch.dtype, variant: str | None) -> Any:
    try:
        import diffusers
        import transformers  # noqa: F401  diffusers' own message would name no extra of ours
    except ImportError as error:
        raise ImportError(f"pipelines need diffusers: pip install guided ({error})") from error
    kind: Any = diffusers.DiffusionPipeline
    if folder.is_dir():
        check_folder(folder)
    try:
        with quiet():
            if not folder.is_dir():
                check_index(kind.load_config(str(folder)), str(folder))
            return kind.from_pretrained(str(folder), torch_dtype=dtype, variant=variant)
    except GuidedError:
        raise
    except Exception as error:  # whatever the hub, a file or a part says
        where = "" if folder.is_dir() else "no folder has this name, and as a repository it cannot be had: "
        raise GuidedError(f"cannot load the pipeline {str(folder)!r}: {where}{reason_of(error)}") from error


def _reschedule(pipeline: Any, scheduler: Mapping[str, Any] | str | None) -> None:
    if scheduler is None:
        return
    import diffusers

    entries: dict[str, Any] = {"class": scheduler} if isinstance(scheduler, str) else dict(scheduler)
    own = type(pipeline.scheduler)
    kind = getattr(diffusers, str(entries.pop("class", own.__name__)), None)
    if kind is None or not hasattr(kind, "set_timesteps"):
        raise GuidedError(f"scheduler is {scheduler!r}: diffusers has no such class (as DDIMScheduler)")
    known = pipeline.scheduler.config.keys() | inspect.signature(kind.__init__).parameters
    for name in entries:
        if name not in known:
            raise GuidedError(f"{kind.__name__} has no entry {name!r}{nearest(name, sorted(known))}")
    try:
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **entries)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise GuidedError(f"scheduler {scheduler!r}: {error}") from error


def _place(pipeline: Any, device: torch.device, offload: str) -> None:
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
