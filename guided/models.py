"""Pretrained models by name or path."""

__all__ = ["load", "models", "resolve_device"]

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from guided.checkpoints import FOLDER, read_config
from guided.errors import GuidedError, nearest
from guided.model import Diffusion
from guided.process import check_steps

#: The adapter that reads each kind of checkpoint.
_ADAPTERS = {"molecules": "guided.adapters.molecules"}

#: The models that the package ships: a folder of `guided/checkpoints` and a line about it.
_SHIPPED = {"molecules": "drug-like molecules (MOSES), masked diffusion over pieces of SELFIES; samples are SMILES"}


def models() -> dict[str, str]:
    """The models that the package ships, with a line about each."""
    return dict(_SHIPPED)


#: The precisions that a network can run in.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name_or_path: str | Path, *, device: str = "auto", dtype: str = "float32", steps: int | None = None
) -> Diffusion:
    """Loads a pretrained model.

    Arguments:
        name_or_path: The name of a shipped model, or a folder with `config.json` and `model.safetensors`.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for the best there is.
        dtype: The precision of the network, "float32", "bfloat16" or "float16"; what it says is used in float32.
        steps: The number of reverse steps `K`; None for the model's own.

    Raises:
        ValueError: The name, the device or the checkpoint is not what is accepted.
    """
    target = resolve_device(device)
    if dtype not in DTYPES:
        raise GuidedError(f"unknown dtype {dtype!r}{nearest(dtype, DTYPES)}; known are {', '.join(DTYPES)}")
    folder = FOLDER / str(name_or_path) if str(name_or_path) in _SHIPPED else Path(name_or_path)
    if folder.is_file():
        raise GuidedError(f"{folder} is a file; a model is a folder with config.json and model.safetensors")
    if not folder.is_dir():
        known = ", ".join(_SHIPPED)
        hint = nearest(str(name_or_path), _SHIPPED)
        raise GuidedError(f"no model and no folder is called {str(name_or_path)!r}{hint}; models are {known}")
    config = read_config(folder)
    if config["kind"] not in _ADAPTERS:
        raise GuidedError(f"{folder} holds a model of kind {config['kind']!r}; known are {', '.join(_ADAPTERS)}")
    model: Diffusion = import_module(_ADAPTERS[config["kind"]]).load(folder, config, target, DTYPES[dtype])
    model = replace(model, name=str(name_or_path))
    return model if steps is None else model.with_steps(check_steps(steps))


def resolve_device(device: str) -> torch.device:
    """The device of that name, "auto" for an accelerator if there is one.

    Raises:
        ValueError: There is no such device.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        target = torch.device(device)
        torch.empty(1, device=target)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0]
        raise GuidedError(f"device {device!r} cannot be used: {first} (try auto, cpu, cuda, cuda:0 or mps)") from error
    return target
