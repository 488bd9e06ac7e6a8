"""Pretrained models by name or path."""

__all__ = [
    "check_name",
    "check_options",
    "convert",
    "load",
    "models",
    "resolve_device",
    "split_options",
    "with_guider",
]

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from guided.checkpoints import FOLDER, read_config, read_object
from guided.checkpoints.torch_files import entry, read_torch
from guided.core.diffusion import Diffusion
from guided.core.process import check_steps
from guided.errors import GuidedError, kind_of, nearest, shown
from guided.names import read_value, split_name
from guided.settings import torch_defaults

#: The adapter of each `kind` of checkpoint in a folder.
_ADAPTERS = {
    "fragments": "guided.adapters.fragments.adapter",
    "gdss": "guided.adapters.gdss.adapter",
    "mdlm": "guided.adapters.mdlm.dit",
    "molecules": "guided.adapters.selfies.adapter",
    "nucleotides": "guided.adapters.nucleotides.adapter",
}

#: The adapters of checkpoints that are one file: those with an entry of such a name, and any other.
_FILES = {"params_adj": "guided.adapters.gdss.adapter"}
_FILE = "guided.adapters.mdlm.cnn"

#: The adapter of diffusers' pipelines: a folder with an index, or the name of a repository.
_PIPELINES = "guided.adapters.diffusers"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

#: The models that the package ships: a folder of `guided/checkpoints` and a line about it.
_SHIPPED = {
    "dna": "human regulatory DNA of 200 bp, masked diffusion; prompts are GM12878, hESC, HepG2, K562 or none",
    "images": "small images of objects (64 x 64), latent diffusion in Stable Diffusion's layout; prompts are words",
    "molecules": "drug-like molecules (MOSES), masked diffusion over trees of fragments; samples are SMILES",
    "molecules_selfies": "the former model of molecules, over pieces of SELFIES: smaller, further from the data, and "
    "without a negative checkpoint",
    "rna": "5' untranslated regions of 50 nt, masked diffusion; prompts are human, arabidopsis or none",
}


def models() -> dict[str, str]:
    """The models that the package ships, with a line about each."""
    return dict(_SHIPPED)


#: The precisions that a network can run in.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@torch_defaults()
def load(
    name_or_path: Any,
    *,
    device: str = "auto",
    dtype: str = "float32",
    steps: int | None = None,
    compile: str | None = None,
    channels_last: bool | None = None,
    **options: Any,
) -> Diffusion:
    """Loads a pretrained model.

    Args:
        name_or_path: The name of a shipped model; a folder with `config.json` and `model.safetensors`, ours or MDLM's
            of Hugging Face; a Lightning checkpoint of the MDLM line or one of GDSS, a file; a pipeline of diffusers by
            its folder or its repository's name, or as an object. Options may follow a name, as in
            `"drakes.ckpt?length=200&ema=false"`.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for the best there is.
        dtype: The precision of the network, "float32", "bfloat16" or "float16"; its outputs are used in float32.
        steps: The number of reverse steps `K`; None for the model's own.
        compile: How the network is compiled, which takes a minute or more once, and rounds in other places: "default",
            or on a GPU "graph", with CUDA graphs; None for not at all. Micro-batches then have one size.
        channels_last: Whether convolutions have their channels last in memory; None for where that is known to be fast.
        options: What the checkpoint's adapter takes besides: for the models of molecules, DNA and RNA `temperature`,
            that of the tokens' distribution, for a file `length`, `alphabet` and `ema`
            (:func:`guided.adapters.mdlm.cnn.load`) or GDSS's (:func:`guided.adapters.gdss.adapter.load`), for MDLM's
            folder `length`, for a pipeline `eta`, `lookahead`, `scheduler`, `guider` and more
            (:func:`guided.adapters.diffusers.load`). A pipeline object takes those of
            :func:`guided.adapters.diffusers.wrap`, and stays on its device and in its precision.

    Raises:
        GuidedError: The name, the device, an option or the checkpoint is not accepted.
    """
    running = {"compile": compile, "channels_last": channels_last, "temperature": options.get("temperature")}
    running = {name: value for name, value in running.items() if value is not None}
    options |= running
    if not isinstance(name_or_path, str | Path):
        return _wrapped(name_or_path, steps, options)
    target = resolve_device(device)
    dtype = str(dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise GuidedError(f"unknown dtype {shown(dtype)}{nearest(dtype, DTYPES)}; it is one of {', '.join(DTYPES)}")
    place, given = split_options(name_or_path)
    path = FOLDER / place if place in _SHIPPED else _path(place)
    adapter, config = _adapter(path)
    for twice in given.keys() & options.keys():
        raise GuidedError(f"the model's option {twice!r} is given twice")
    options = given | options
    check_options(adapter.load, options, f"model {shown(place)}")
    model: Diffusion = adapter.load(path, config, target, DTYPES[dtype], **options)
    model = replace(model, name=_with_options(str(name_or_path), running))
    return model if steps is None else model.with_steps(check_steps(steps))


def _with_options(name: str, options: Mapping[str, Any]) -> str:
    """The name followed by options, as `"dna?compile=default"`: they are recorded with it."""
    values = [value if isinstance(value, str) else json.dumps(value, default=float) for value in options.values()]
    texts = [f"{key}={value}" for key, value in zip(options, values, strict=True)]
    return "".join([name, *(("&" if "?" in name or i else "?") + text for i, text in enumerate(texts))])


def check_name(name_or_path: str | Path) -> None:
    """Checks that there is a model of this name, or a file or folder of this path, without loading it.

    Raises:
        GuidedError: There is none.
    """
    place, _ = split_options(name_or_path)
    if place not in _SHIPPED:
        _adapter(_path(place))


def _path(place: str) -> Path:
    """The path of a name, with `~` expanded.

    Raises:
        GuidedError: It is empty, or no file can have this name.
    """
    if not place:
        raise GuidedError("the model is empty; give a name of `guided models`, or a path")
    try:
        path = Path(place).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null, no home
        raise GuidedError(f"no model is called {shown(place)}: {str(error).split(':')[0]}") from error
    return path


def _wrapped(pipeline: Any, steps: int | None, options: Mapping[str, Any]) -> Diffusion:
    """The model of a pipeline object."""
    if not hasattr(pipeline, "components") or not hasattr(pipeline, "scheduler"):
        raise GuidedError(
            f"model is {kind_of(pipeline)}; it must be a Diffusion, a pipeline of diffusers, "
            "or the name or folder of a model"
        )
    wrap = import_module(_PIPELINES).wrap
    check_options(wrap, options, f"model {type(pipeline).__name__!r}")
    return wrap(pipeline, steps=steps, **options)


def with_guider(model: Diffusion, guider: Any) -> Diffusion:
    """The model of a pipeline, guided by a guider of diffusers; as it is, if none is given.

    Raises:
        GuidedError: As :func:`guided.adapters.diffusers.guiders.with_guider`.
    """
    if guider is None:
        return model
    found: Diffusion = import_module(_PIPELINES).with_guider(model, guider)
    return found


def split_options(name: str | Path) -> tuple[str, dict[str, Any]]:
    """`"a.ckpt?length=200"` -> `("a.ckpt", {"length": 200})`; values are JSON, or else text."""
    text = str(name)
    if "?" not in text or _is_file(text):
        return text, {}
    place, options = split_name(text, repr(text), "option=value", loose=False)
    return place, {name: read_value(value) for name, value in options.items()}


def _is_file(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # not a valid file name
        return False


def _adapter(path: Path) -> tuple[ModuleType, Mapping[str, Any]]:
    """The adapter of a checkpoint, and the checkpoint's configuration."""
    if path.is_file():
        return import_module(_file_adapter(path)), {}
    if (path / "model_index.json").is_file() or (not path.exists() and _REPOSITORY.fullmatch(str(path))):
        return import_module(_PIPELINES), {}
    if not path.is_dir():
        hint = nearest(str(path), _SHIPPED)
        known = f"it is one of {', '.join(_SHIPPED)}, or a path"
        raise GuidedError(f"no model, no folder and no file is called {shown(str(path))}{hint}; {known}")
    config = _read_config(path)
    if config["kind"] not in _ADAPTERS:
        raise GuidedError(f"{path} holds a model of kind {config['kind']!r}; it is one of {', '.join(_ADAPTERS)}")
    return import_module(_ADAPTERS[config["kind"]]), config


def _file_adapter(path: Path) -> str:
    """The adapter of a file; a file that cannot be read is left to the adapter that is asked last, which says why."""
    try:
        content = {} if path.suffix == ".safetensors" else read_torch(path)
    except (GuidedError, OSError):
        return _FILE
    return next((_FILES[name] for name in _FILES if entry(content, name) is not None), _FILE)


def convert(path: str | Path, out: str | Path) -> None:
    """Makes a folder with `config.json` and `model.safetensors` of a published file, which loads as the file does.

    Args:
        path: The file.
        out: The folder; it must be new, or empty.

    Raises:
        GuidedError: The file is no checkpoint of a kind that can be converted, or the folder is in use.
    """
    file, folder = _path(str(path)), Path(out).expanduser()
    if not file.is_file():
        if file.is_dir():
            raise GuidedError(f"{shown(str(path))} is a folder; what is converted is a published file")
        raise GuidedError(f"there is no file {shown(str(path))} to convert")
    adapter = import_module(_file_adapter(file))
    if not hasattr(adapter, "convert"):
        raise GuidedError(f"{path} is not a file of GDSS; only these are converted, others are loaded as they are")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GuidedError(f"{str(folder)!r} is in use; give a new folder")
    adapter.convert(file, folder)


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a folder; Hugging Face's `model_type` is read as `kind`."""
    path = folder / "config.json"
    config = read_object(path) if path.is_file() else read_config(folder)
    if "kind" not in config and "_class_name" in config:
        raise GuidedError(
            f"{folder} holds one network ({shown(config['_class_name'])}) of a pipeline; give the folder of the whole "
            "pipeline, with model_index.json (as negative= a network's folder is taken)"
        )
    kind = config.get("kind", config.get("model_type"))
    return {**config, "kind": kind} if isinstance(kind, str) else read_config(folder)


def check_options(load: Callable[..., Any], options: Mapping[str, Any], what: str) -> None:
    """Raises GuidedError at the first option that is not a keyword of a function; `what` names it in messages."""
    parameters = inspect.signature(load).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise GuidedError(f"{what} has no option {name!r}{nearest(name, known)}; {takes}")


def resolve_device(device: str) -> torch.device:
    """The device of that name, "auto" for an accelerator if there is one.

    Raises:
        GuidedError: There is no such device.
    """
    if str(device) == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    target: torch.device | None = None
    try:
        if not isinstance(device, str | torch.device):
            raise RuntimeError("it is not a name")
        target = torch.device(device)
        torch.ones(1, device=target).item()  # a device without data, as meta, is refused
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        wrong = "is unknown" if target is None else "is not available on this machine"
        raise GuidedError(f"device {shown(device)} {wrong}; it is one of {', '.join(_devices())}") from error
    return target


def _devices() -> list[str]:
    """The names of the devices of this machine."""
    cards = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [
        "auto",
        "cpu",
        *(["cuda", *cards] if cards else []),
        *(["mps"] if torch.backends.mps.is_available() else []),
    ]
