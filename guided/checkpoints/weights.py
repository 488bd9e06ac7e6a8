"""Weights in safetensors: first the header, which says names and shapes, then a network, then the tensors."""

__all__ = [
    "check_finite",
    "check_shapes",
    "digest_of",
    "header",
    "load_network",
    "plain_names",
    "read_tensors",
    "read_weights",
    "sketched",
    "there",
]

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from guided.checkpoints import read_object
from guided.checkpoints.schemas import Shards, validated
from guided.errors import GuidedError, shown
from guided.storage import digest

INDEX = ".index.json"
_WRAPPED = re.compile(r"(?:(?<=\.)|(?<![^.]))(?:module|_orig_mod)\.")  # at the start, or after a dot
Shape = tuple[int, ...]
Net = TypeVar("Net", bound=nn.Module)


def header(path: Path) -> dict[str, Shape]:
    """The shapes of the tensors of a file, or of its shards, by name; none of them is read.

    Raises:
        GuidedError: A file is missing, truncated or no safetensors.
    """
    shapes: dict[str, Shape] = {}
    for file in files_of(path):
        try:
            with safe_open(file, "pt") as content:
                shapes |= {key: tuple(content.get_slice(key).get_shape()) for key in content.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise _torn(file, error) from error
    return shapes


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of its shards, by name.

    Raises:
        GuidedError: A file is missing, truncated or no safetensors.
    """
    tensors: dict[str, Tensor] = {}
    for file in files_of(path):
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise _torn(file, error) from error
    return tensors


def files_of(path: Path) -> list[Path]:
    """The file itself, or the shards of it that an index beside it names (`model.safetensors.index.json`).

    Raises:
        GuidedError: There is neither, or a shard is missing.
    """
    index = path.with_name(f"{path.name}{INDEX}")
    if path.is_file() or not index.is_file():
        if not path.is_file():
            raise GuidedError(f"{path.parent} has no {path.name}")
        return [path]
    names = sorted(set(validated(Shards, read_object(index), index).weight_map.values()))
    for name in names:
        if Path(name).name != name or not (path.parent / name).is_file():
            raise GuidedError(f"{index} names {shown(name)}; that must be a file beside it, and there is none")
    return [path.parent / name for name in names]


def there(path: Path) -> bool:
    """Whether there is such a file, or an index of its shards."""
    return path.is_file() or path.with_name(f"{path.name}{INDEX}").is_file()


def digest_of(path: Path) -> str:
    """The SHA-256 digest of a file; of its shards' digests."""
    files = files_of(path)
    found = [digest(file) for file in files]
    return found[0] if len(files) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def plain_names(keys: Iterable[str]) -> dict[str, str]:
    """The names of tensors without what wrappers put into them (`module.` of DataParallel, `_orig_mod.` of a compiled
    network), each with the name in the file.

    Raises:
        GuidedError: Two become the same.
    """
    plain: dict[str, str] = {}
    for key in keys:
        name = _WRAPPED.sub("", key)
        if name in plain:
            raise GuidedError(
                f"the weights have {plain[name]!r} and {key!r}, which are one layer's; remove one of them"
            )
        plain[name] = key
    return plain


def _torn(path: Path, error: Exception) -> GuidedError:
    reason = " ".join(str(error).split())[:200]
    return GuidedError(f"{path} is truncated, or no safetensors file ({reason})")


def sketched(make: Callable[[], Net], path: Path) -> Net:
    """The network that a configuration describes, without memory for its weights.

    Raises:
        GuidedError: There is no such network.
    """
    try:
        with torch.device("meta"):
            return make()
    except GuidedError:
        raise
    except (RuntimeError, ValueError, OverflowError, ZeroDivisionError) as error:  # sizes that torch cannot count
        raise GuidedError(f"{path} describes no network that can be made: {str(error).splitlines()[0]}") from error


def check_shapes(wanted: Mapping[str, Tensor], found: Mapping[str, Shape], path: Path, keys: Iterable[str]) -> None:
    """Compares the shapes of a network's tensors with those of a file, key by key.

    Raises:
        GuidedError: A key or a shape differs; it names the first.
    """
    for key in keys:
        have, want = found.get(key), wanted[key].shape if key in wanted else None
        if have is None or want is None or have != tuple(want):
            shapes = [tuple(shape) if shape is not None else "nothing" for shape in (have, want)]
            raise GuidedError(f"{path} is of another architecture: {key} is {shapes[0]}, the network has {shapes[1]}")


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Says early what would guide, or be drawn from, without a word.

    Raises:
        GuidedError: A weight is nan or infinite.
    """
    for key, weight in weights.items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise GuidedError(f"{path} has numbers in {key} that are not finite (nan, or infinite)")


def load_network(make: Callable[[], Net], path: Path, sketch: bool = True) -> tuple[Net, str]:
    """A network with the weights of a file, in the network's own precision, and the SHA-256 digest of the file.

    Args:
        make: Makes the network; it is called without memory first, to compare its shapes with the file's.
        path: The weights.
        sketch: Whether it can be made without memory; a network of the user's own code need not.

    Raises:
        GuidedError: The file is missing, truncated or no safetensors, a key or shape differs (it names the first), or
            a number is not finite.
    """
    if sketch:
        _matched(sketched(make, path), path)
    net = make()
    return net, read_weights(net, path)


def read_weights(net: nn.Module, path: Path) -> str:
    """Puts the weights of a file into a network, in the network's own precision.

    Returns:
        The SHA-256 digest of the file.

    Raises:
        GuidedError: The file is missing, truncated or no safetensors, a key or shape differs, or a number is nan.
    """
    names, tensors = _matched(net, path), read_tensors(path)
    weights = {name: tensors[key] for name, key in names.items()}
    check_finite(weights, path)
    net.load_state_dict(weights)
    return digest_of(path)


def _matched(net: nn.Module, path: Path) -> dict[str, str]:
    """The name in a file of each tensor of a network, of equal shapes."""
    wanted, shapes = net.state_dict(), header(path)
    names = {key: key for key in shapes} if wanted.keys() == shapes.keys() else plain_names(shapes)
    found = {name: shapes[key] for name, key in names.items()}
    check_shapes(wanted, found, path, sorted(wanted.keys() | found.keys()))
    return names
