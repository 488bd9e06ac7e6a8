"""Files of `torch.save`, read without running any code that they name.

A pickle is a program: it may call any class or function that can be imported. torch's reader for `weights_only=True`
calls only those of its own list, for tensors and plain containers, and refuses a file that names another. A Lightning
checkpoint does: its `hyper_parameters` hold omegaconf's classes, and whatever else the training code kept there.

So the names are first listed, which executes nothing. The same reader then takes each as an :class:`Inert` of ours,
which only keeps its arguments. The class or function that was named is neither imported
nor called; modules that torch never allows, such as `os` and `sys`, are refused as before.
"""

__all__ = ["Inert", "entry", "read_torch", "reason_of"]

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from guided.errors import GuidedError

#: Torch's advice on reading a file that it refused.
_ADVICE = re.compile("weights_only|safe_globals|trusted source|arbitrary code|trust_remote_code", re.IGNORECASE)


class Inert:
    """Stands for a class or a function that a file names.

    Attributes:
        state: The state that the file gives to an object of it; None if it gives none.
    """

    def __new__(cls, *args: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


#: Dictionaries: the reader puts items, and attributes, into real ones only.
_DICTIONARIES = ("collections.defaultdict", "easydict.EasyDict")

#: The first bytes of torch's old format, before zip files: a pickled magic number.
ZIP = b"PK"  # how files of torch.save begin
OLD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_torch(path: Path) -> Any:
    """The content of a file of `torch.save`, with an :class:`Inert` for anything but tensors, containers and numbers.

    Tensors are on the CPU, and are read from the file when they are first used.

    Raises:
        GuidedError: The file is truncated, in no format of `torch.save`, or names something that is refused.
    """
    with path.open("rb") as file:
        start = file.read(len(OLD))
        if start == OLD:
            raise GuidedError(f"{path} is in torch's old format: torch.load it, and torch.save its content again")
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([_stand_in(name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a broken pickle can raise anything
        why = reason_of(error)
        if not start.startswith(ZIP):
            raise GuidedError(
                f"{path} is not a checkpoint: a file must be one of torch.save, a folder one of a model"
            ) from error
        raise GuidedError(f"{path} is truncated, or no file of torch.save that is safe to read ({why})") from error


def reason_of(error: BaseException) -> str:
    """Why a library could not read a file, in one line and without torch's advice to read it unsafely."""
    text = str(error)
    reason = re.search(r"(?:WeightsUnpickler error: |(?=Trying to load ))([^\n]+)", text)
    if reason:
        return reason[1][:300]
    sentences = re.split(r"(?<=[.:;])\s+", " ".join(text.split()))
    return " ".join(part for part in sentences if not _ADVICE.search(part))[:300].rstrip(" ;:") or type(error).__name__


def entry(node: Any, *path: str) -> Any:
    """The entry under a path in nested mappings, omegaconf's included; None where there is none."""
    for key in path:
        node = _content(node)
        node = node.get(key) if isinstance(node, Mapping) else None
    return _content(node)


def _content(node: Any) -> Any:
    """The content of a node of omegaconf: `_content` of a container, or else `_val`; of others the attributes."""
    if not isinstance(node, Inert):
        return node
    state = node.state if isinstance(node.state, Mapping) else {}
    return state.get("_content", state.get("_val", state))


def _stand_in(name: str) -> type:
    """A class with the name `package.module.name`."""
    module, _, own = name.rpartition(".")
    namespace: dict[str, Any] = {"__module__": module, "__qualname__": own}
    if name in _DICTIONARIES:
        namespace["__new__"] = lambda cls, *args: OrderedDict()
    return type(own, (Inert,), namespace)
