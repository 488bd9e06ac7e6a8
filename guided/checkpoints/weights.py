"""Weights in safetensors: first the header with names and shapes, then a network, then the tensors."""

__all__ = [
    "check_finite",
    "check_shapes",
    "exists",
    "header",
    "load_network",
    "plain_names",
    "read_tensors",
    "read_weights",
    "sketched",
    "weights_digest",
]

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from guided import storage
from guided.checkpoints import read_object
from guided.checkpoints.schemas import Shards, validated
from guided.errors import GuidedError, shown

INDEX = ".index.json"
_WRAPPED = re.compile(r"(?:(?<=\.)|(?<![^.]))(?:module|_orig_mod)\.")  # at the start, or after a dot
Shape = tuple[int, ...]
Net = TypeVar("Net", bound=nn.Module)


def header(path: Path) -> dict[str, Shape]:
    """The shapes of the tensors of a file, or of its shards, by name; no tensor is read.

    Raises:
        GuidedError: A file is missing, truncated or no safetensors.
    """
    shapes: dict[str, Shape] = {}
    for file in files_of(path):
        try:
            with safe_open(file, "pt") as content:
                shapes |= {key: tuple(content.get_slice(key).get_shape()) for key in content.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise _unreadable(file, error) from error
    return shapes


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of its shards, by name.

    Raises:
        GuidedError: A file is missing, truncated or no safetensors.
    """
    tensors: dict[str, Tensor] = {}
    for file in files_of(path):
        tensors |= storage.read_tensors(file)
    return tensors


def files_of(path: Path) -> list[Path]:
    """The file itself, or its shards, by the index beside it (`model.safetensors.index.json`).

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
            raise GuidedError(f"{index} names {shown(name)}; there is no such file beside it")
    return [path.parent / name for name in names]


def exists(path: Path) -> bool:
    """Whether the file, or an index of its shards, exists."""
    return path.is_file() or path.with_name(f"{path.name}{INDEX}").is_file()


def weights_digest(path: Path) -> str:
    """The SHA-256 digest of a file; of its shards' digests."""
    files = files_of(path)
    found = [storage.digest(file) for file in files]
    return found[0] if len(files) == 1 else storage.digest_of("".join(found))


def plain_names(keys: Iterable[str]) -> dict[str, str]:
    """The names of tensors without the prefixes of wrappers (`module.` of DataParallel, `_orig_mod.` of a compiled
    network), each with the name in the file.

    Raises:
        GuidedError: Two become the same.
    """
    plain: dict[str, str] = {}
    for key in keys:
        name = _WRAPPED.sub("", key)
        if name in plain:
            raise GuidedError(
                f"the weights have {plain[name]!r} and {key!r}, which are the same layer's; remove one of them"
            )
        plain[name] = key
    return plain


def _unreadable(path: Path, error: Exception) -> GuidedError:
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
    except (RuntimeError, ValueError, OverflowError, ZeroDivisionError) as error:  # sizes that overflow in torch
        raise GuidedError(f"{path} describes no network that can be made: {str(error).splitlines()[0]}") from error


def check_shapes(wanted: Mapping[str, Tensor], found: Mapping[str, Shape], path: Path, keys: Iterable[str]) -> None:
    """Compares the shapes of a network's tensors with those of a file, key by key.

    Raises:
        GuidedError: A key or a shape differs; the message names the first.
    """
    for key in keys:
        have, want = found.get(key), wanted[key].shape if key in wanted else None
        if have is None or want is None or have != tuple(want):
            shapes = [tuple(shape) if shape is not None else "nothing" for shape in (have, want)]
            raise GuidedError(f"{path} is of another architecture: {key} is {shapes[0]}, the network has {shapes[1]}")


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuses weights that would silently give wrong samples.

    Raises:
        GuidedError: A weight is nan or infinite, complex, or no plain tensor with numbers.
    """
    for key, weight in weights.items():
        if weight.layout is not torch.strided or weight.is_quantized or weight.is_complex() or weight.is_meta:
            what = "meta" if weight.is_meta else f"{weight.layout}, {weight.dtype}"
            raise GuidedError(f"{path} has {key} in a form that is not read ({what}); save it as a plain tensor")
        small = weight.element_size() == 1 and weight.is_floating_point()  # float8 has no isfinite
        if weight.is_floating_point() and not (weight.float() if small else weight).isfinite().all():
            raise GuidedError(f"{path} has numbers in {key} that are not finite (nan, or infinite)")


def load_network(make: Callable[[], Net], path: Path, sketch: bool = True) -> tuple[Net, str]:
    """A network with the weights of a file, in the network's own precision, and the SHA-256 digest of the file.

    Args:
        make: Makes the network; it is called without memory first, to compare its shapes with the file's.
        path: The weights.
        sketch: Whether it can be made without memory; a network from the user's own code may not be.

    Raises:
        GuidedError: The file is missing, truncated or no safetensors, a key or shape differs (the message names the
            first), or a number is not finite.
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
    return weights_digest(path)


def _matched(net: nn.Module, path: Path) -> dict[str, str]:
    """The name in a file of each tensor of a network; their shapes are checked."""
    wanted, shapes = net.state_dict(), header(path)
    names = {key: key for key in shapes} if wanted.keys() == shapes.keys() else plain_names(shapes)
    found = {name: shapes[key] for name, key in names.items()}
    check_shapes(wanted, found, path, sorted(wanted.keys() | found.keys()))
    return names
