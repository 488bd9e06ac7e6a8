"""The state of a training on disk: safetensors files of at most 15 MB, and a JSON file with the rest.

A state is nested dictionaries, lists, tuples, tensors and plain values, as `state_dict` gives them. The JSON file is
written last and names the files, so that a kill at any time leaves the old state or the new one. Nothing is unpickled.
"""

__all__ = ["STATE", "check_history", "check_like", "drop_state", "intact", "read_state", "write_state"]

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guided.errors import GuidedError, check_number, kind_of, shown
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
        turn = int(read_json(folder / INDEX, "").get("turn") == 0)
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
    with intact(folder):
        found = read_json(folder / INDEX, "")
        files = found.get("files")
        if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
            raise GuidedError(f"files is {shown(files)}; it must be a list of names")
        tensors: dict[str, Tensor] = {}
        for name in files:
            tensors |= read_tensors(folder / Path(name).name, device)
        state = _put_together(found.get("state"), tensors)
        if not isinstance(state, dict):
            raise GuidedError(f"state is {shown(found.get('state'))}; it must be an object")
        return state


@contextmanager
def intact(folder: Path) -> Iterator[None]:
    """Turns an error inside into one line that names the folder of a state and what is wrong in it.

    Raises:
        GuidedError: Something inside was missing, or of another type.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, AttributeError, RecursionError) as error:
        why = f"{error.args[0]} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:500]
        raise GuidedError(
            f"the state of the training in {str(folder)!r} is damaged, or of another network ({why}); "
            "remove the folder to begin again"
        ) from error


def check_like(name: str, found: Any, due: Mapping[str, Tensor]) -> None:
    """Checks tensors by name: none is missing, all have the due shapes and types, and only finite numbers.

    Raises:
        GuidedError: One is not as it should be.
    """
    if not isinstance(found, Mapping):
        raise GuidedError(f"{name} is {kind_of(found)}; it must be tensors by name")
    for key, tensor in due.items():
        mine, form = found.get(key), (tuple(tensor.shape), tensor.dtype)
        if not isinstance(mine, Tensor) or (tuple(mine.shape), mine.dtype) != form:
            given = (tuple(mine.shape), mine.dtype) if isinstance(mine, Tensor) else shown(mine)
            raise GuidedError(f"{name} has {key} {given}; it must be {form}")
        if mine.is_floating_point() and not mine.isfinite().all():
            raise GuidedError(f"{name} has numbers in {key} that are not finite (nan, or infinite)")


def check_history(found: Any, most: int) -> list[tuple[int, float]]:
    """Pairs of a number of updates, at most `most`, and a loss.

    Raises:
        GuidedError: There is something else.
    """
    if not isinstance(found, list) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in found):
        raise GuidedError(f"history is {shown(found)}; it must be pairs of an update and a loss")
    return [
        (check_number("history", update, int, 0, most), check_number("history", loss, float)) for update, loss in found
    ]


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
    if len(value) != 1:
        raise GuidedError(f"an entry is {shown(value)}; it must have one kind")
    [(kind, content)] = value.items()
    if kind == "tensor":
        if content not in tensors:
            raise GuidedError(f"tensor {shown(content)} is missing")
        return tensors[content]
    if kind == "float":
        return float(content)
    if not isinstance(content, list):
        raise GuidedError(f"an entry {shown(kind)} is {shown(content)}; it must be a list")
    if kind == "dict":
        return {key: _put_together(entry, tensors) for key, entry in content}
    entries = [_put_together(entry, tensors) for entry in content]
    return tuple(entries) if kind == "tuple" else entries
