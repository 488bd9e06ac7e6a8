"""The parts of a pipeline, checked before they are made and after they are read.

The libraries make as many layers as a configuration names before they look at the weights, and fill what a file lacks
with random numbers, with a warning at most. Here the first is refused by the number of tensors in the file, and the
second always.
"""

__all__ = ["LIBRARIES", "check_loaded", "check_parts", "left_out"]

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from guided.checkpoints import read_object
from guided.checkpoints.weights import header
from guided.errors import GuidedError, check_number, shown

CONFIG = "config.json"
LIBRARIES = ("diffusers", "transformers")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_MISSING = (re.compile(r"(\S+)\s*\|\s*MISSING"), re.compile(r"newly initialized: \[([^\]]*)\]"))


def check_parts(folder: Path, parts: Iterable[str]) -> None:
    """Checks the configurations of networks: numbers of layers are whole, and not above the number of tensors.

    Raises:
        GuidedError: One is not; the message names the file and the entry.
    """
    for part in parts:
        file = folder / part / CONFIG
        weights = next((file.with_name(name) for name in WEIGHTS if file.with_name(name).is_file()), None)
        if not file.is_file() or weights is None:
            continue
        most = max(1, len(header(weights)))
        for name, entry in read_object(file).items():
            if "layers" in name and isinstance(entry, int | float | list):
                for number in entry if isinstance(entry, list) else [entry]:
                    _check_layers(file, name, number, most)


def _check_layers(file: Path, name: str, number: Any, most: int) -> None:
    if isinstance(number, list):
        for entry in number:
            _check_layers(file, name, entry, most)
    elif number is not None and not isinstance(number, bool):
        try:
            check_number(name, number, int, least=0, most=most)
        except GuidedError as error:
            raise GuidedError(f"{file}: {error} (its weights have {most} tensors)") from error


def left_out(kind: str, parts: Mapping[str, tuple[str, str]], place: str) -> dict[str, Any]:
    """The parts that diffusers would not read, as its pipeline can do without them.

    Args:
        kind: The class of the pipeline.
        parts: Its parts, each by its library and class.
        place: The folder or repository.
    """
    pipeline: Any = getattr(importlib.import_module("diffusers"), kind)
    known = inspect.signature(pipeline.__init__).parameters
    optional = [name for name, p in known.items() if p.default is not p.empty and name in parts]
    missed = [name for name in optional if name not in pipeline._optional_components and parts[name][0] in LIBRARIES]
    classes = {name: getattr(importlib.import_module(parts[name][0]), parts[name][1]) for name in missed}
    return {name: part.from_pretrained(place, subfolder=name) for name, part in classes.items()}


def check_loaded(pipeline: Any, heard: Iterable[str], place: str) -> None:
    """Checks that every weight was in a file, and that the decoder's scale is a number.

    Args:
        pipeline: A pipeline of diffusers.
        heard: What the libraries warned of while they read it.
        place: The folder or repository.

    Raises:
        GuidedError: A weight was not, or it is none.
    """
    missing = [name for text in heard for form in _MISSING for name in form.findall(text)]
    for part, module in pipeline.components.items():
        if isinstance(module, nn.Module):
            missing += [f"{part}.{name}" for name, weight in module.named_parameters() if weight.is_meta]
    if missing:
        raise GuidedError(
            f"cannot load the pipeline {place!r}: {len(missing)} of its weights are in no file, the first is "
            f"{shown(missing[0])}; they would be random"
        )
    scale = getattr(getattr(pipeline, "vae", None), "config", {}).get("scaling_factor", 1.0)
    if scale is not None:
        check_number(f"scaling_factor of the decoder in {place!r}", scale, float, above=0)
