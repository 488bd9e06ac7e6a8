"""Pipelines by the name of a repository, or in a folder with `model_index.json`."""

__all__ = ["INDEX", "load"]

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from guided.adapters.diffusers.adapter import fingerprint, wrap
from guided.adapters.diffusers.families import FAMILIES
from guided.adapters.diffusers.quiet import quiet
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError, nearest

INDEX = "model_index.json"
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
    if offload not in OFFLOADS:
        raise GuidedError(f"offload is {offload!r}{nearest(offload, OFFLOADS)}; it is one of {', '.join(OFFLOADS)}")
    if offload != "none" and device.type == "cpu":
        raise GuidedError(f"offload is {offload!r}, but the device is the CPU: there is nothing to offload from")
    pipeline = _read(folder, dtype, variant)
    _reschedule(pipeline, scheduler)
    for name in [lora] if isinstance(lora, str) else lora:
        _add_lora(pipeline, name, lora_scale)
    identity = fingerprint(pipeline.components)  # now: what is offloaded has no entries to look at
    _place(pipeline, device, offload)
    if slicing:
        pipeline.vae.enable_slicing()
    if tiling:
        pipeline.vae.enable_tiling()
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


def _read(folder: Path, dtype: torch.dtype, variant: str | None) -> Any:
    try:
        import diffusers
        import transformers  # noqa: F401  diffusers' own message would name no extra of ours
    except ImportError as error:
        raise ImportError(f"pipelines need diffusers: pip install guided ({error})") from error
    if folder.is_dir():
        check_folder(folder)
    kind: Any = diffusers.DiffusionPipeline
    try:
        with quiet():
            return kind.from_pretrained(str(folder), torch_dtype=dtype, variant=variant)
    except Exception as error:  # whatever the hub, a file or a part says
        first = " ".join(str(error).split())[:300]
        where = "" if folder.is_dir() else "no folder has this name, and as a repository it cannot be had: "
        raise GuidedError(f"cannot load the pipeline {str(folder)!r}: {where}{first}") from error


def check_folder(folder: Path) -> None:
    """Says early what is wrong with a pipeline's folder.

    Raises:
        ValueError: The index is no JSON, names a class that is unknown here, or a part that is missing.
    """
    try:
        index = json.loads((folder / INDEX).read_text())
        name = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GuidedError(f"{folder / INDEX} is no index of a pipeline ({error})") from error
    if name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise GuidedError(f"{folder} holds a {name}{nearest(str(name), FAMILIES)}; known are {known}")
    for part, origin in index.items():
        if part.startswith("_") or not isinstance(origin, list) or origin[0] is None:
            continue
        if not (folder / part).is_dir() or not any((folder / part).iterdir()):
            raise GuidedError(f"{folder} has no folder {part!r}, which its {INDEX} names ({origin[1]})")


def _reschedule(pipeline: Any, scheduler: Mapping[str, Any] | str | None) -> None:
    if scheduler is None:
        return
    import diffusers

    entries = {"class": scheduler} if isinstance(scheduler, str) else dict(scheduler)
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


def _add_lora(pipeline: Any, name: str, scale: float) -> None:
    if not hasattr(pipeline, "load_lora_weights"):
        raise GuidedError(f"{type(pipeline).__name__} takes no LoRA weights")
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ImportError("LoRA weights need peft: pip install guided") from error
    path = Path(name)
    adapter = f"lora{len(pipeline.get_list_adapters())}_{path.stem}".replace(".", "_").replace("-", "_")
    try:
        if path.is_file():
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=adapter)
        else:
            pipeline.load_lora_weights(name, adapter_name=adapter)
        pipeline.fuse_lora(lora_scale=scale, adapter_names=[adapter])
        pipeline.unload_lora_weights()
    except Exception as error:  # whatever the hub or the file says
        raise GuidedError(f"cannot load the LoRA weights {name!r}: {' '.join(str(error).split())[:300]}") from error


def _place(pipeline: Any, device: torch.device, offload: str) -> None:
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
