"""The state of a training on disk: safetensors files of at most 15 MB, and a JSON file with the rest.

A state is nested dictionaries, lists, tuples, tensors and plain values, as `state_dict` gives them. The JSON file is
written last and names the files, so that a kill at any time leaves the old state or the new one. Nothing is unpickled.
"""

__all__ = ["STATE", "drop_state", "read_state", "write_state"]

import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guided.errors import GuidedError
from guided.storage import make_folder, read_json, read_tensors, write_json, write_tensors, writing

INDEX = "state.json"
STATE = "training"  # the folder of a state, inside the folder of the training
MOST = 15_000_000  # bytes of a file; a larger tensor has one of its own
_HEADER = 200_000  # bytes reserved for names and shapes


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes a state into a folder, which is made if it is not there, replacing the state there.

    Raises:
        GuidedError: The folder cannot be written, or the state holds an unsupported type.
    """
    tensors: dict[str, Tensor] = {}
    outline = _taken_apart(state, tensors)
    make_folder(folder)
    turn = 0
    if (folder / INDEX).exists():
        turn = 1 - int(read_json(folder / INDEX, "").get("turn", 1))
    names = []
    for i, part in enumerate(_parts(tensors)):
        names.append(f"{'ab'[turn]}{i:03d}.safetensors")
        write_tensors(folder / names[-1], part)
    write_json(folder / INDEX, {"turn": turn, "files": names, "state": outline})
    with writing(folder):
        for file in folder.glob("*.safetensors"):
            if file.name not in names:
                file.unlink()


def read_state(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The state in a folder, its tensors on the device; None if there is none.

    Raises:
        GuidedError: A file is missing, truncated or not part of a state.
    """
    if not (folder / INDEX).is_file():
        return None
    try:
        found = read_json(folder / INDEX, "")
        tensors: dict[str, Tensor] = {}
        for name in found["files"]:
            tensors |= read_tensors(folder / Path(name).name, device)
        return dict(_put_together(found["state"], tensors))
    except (GuidedError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        why = error if isinstance(error, GuidedError) else f"{type(error).__name__}: {error}"
        raise GuidedError(
            f"the state of the training in {str(folder)!r} is damaged ({why}); remove the folder to begin again"
        ) from error


def drop_state(folder: Path) -> None:
    """Removes the state, and the file of a state of a former version.

    Raises:
        GuidedError: The folder cannot be written.
    """
    with writing(folder.parent):
        folder.with_suffix(".pt").unlink(missing_ok=True)
        if folder.is_dir():
            shutil.rmtree(folder)


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Tensors in groups of at most `MOST` bytes."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if part and size + tensor.nbytes > MOST - _HEADER:
            yield part
            part, size = {}, 0
        part[name] = tensor
        size += tensor.nbytes
    if part:
        yield part


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON, with its tensors moved to `tensors`; dictionaries become pairs, so keys keep their type."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _taken_apart(entry, tensors)] for key, entry in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_taken_apart(entry, tensors) for entry in value]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise GuidedError(f"a state holds a {type(value).__name__}; tensors, containers and plain values are accepted")


def _put_together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind == "dict":
        return {key: _put_together(entry, tensors) for key, entry in content}
    entries = [_put_together(entry, tensors) for entry in content]
    return tuple(entries) if kind == "tuple" else entries
