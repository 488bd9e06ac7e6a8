"""Weights from a Keras 2 HDF5 file, without Keras: what `model.save` or `save_weights` of a sequential model wrote.

The file, or its group "model_weights", lists its layers in order (attribute "layer_names"), and each layer its arrays
(attribute "weight_names"). The names differ from one training to the next; the order and the shapes are the model's.
"""

__all__ = ["Shapes", "read_weights"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guided.errors import GuidedError

Shapes = Mapping[str, tuple[int, ...]]


def read_weights(path: str | Path, model: str, shapes: Shapes) -> list[Tensor]:
    """The arrays of a file, in order, float32.

    Args:
        path: The file.
        model: What it should hold, for messages.
        shapes: The shape of each array, in the file's order, by a name that a reader understands.

    Raises:
        ImportError: h5py is not installed.
        ValueError: There is no such file; it is truncated or no HDF5 file of Keras 2; or an array is missing, has
            another shape, or holds a number that is not finite.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"weights of {model} are read with h5py: pip install guided ({error})") from error
    if not Path(path).is_file():
        raise GuidedError(f"the weights of {model} are a file, and there is none at {str(path)!r}")
    try:
        with h5py.File(path, "r") as file:
            found = _arrays(file.get("model_weights", file), len(shapes))
            _check_shapes(found, f"{str(path)!r} is not {model}", model, shapes)  # a file may say terabytes
            arrays = [(name, np.asarray(array, dtype=np.float32)) for name, array in found]
    except GuidedError:
        raise
    except (OSError, RuntimeError) as error:  # h5py's, of a file that is cut short or is something else
        reason = " ".join(str(error).split())
        raise GuidedError(f"{str(path)!r} is not a whole HDF5 file: {reason}") from error
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise GuidedError(f"{str(path)!r} is an HDF5 file, but holds no weights of Keras 2: {error}") from error
    for name, array in arrays:
        if not np.isfinite(array).all():
            raise GuidedError(f"{str(path)!r}: {name} holds a number that is not finite")
    return [torch.from_numpy(array) for _, array in arrays]


def _check_shapes(found: list[tuple[str, Any]], what: str, model: str, shapes: Shapes) -> None:
    """Compares the shapes of a file's arrays with those that are wanted, before an array is read."""
    for (name, array), (wanted, shape) in zip(found, shapes.items(), strict=False):
        if array.shape != shape:
            raise GuidedError(f"{what}: {name} has shape {array.shape}, where {wanted} has shape {shape}")
    if len(found) != len(shapes):
        raise GuidedError(f"{what}: it holds {len(found)} arrays, and {model} has {len(shapes)}")


def _arrays(root: Any, most: int) -> list[tuple[str, Any]]:
    """The arrays with their names, in the model's order, at most one more than `most`; none is read."""
    arrays: list[tuple[str, Any]] = []
    for layer in root.attrs["layer_names"]:
        group = root[_text(layer)]
        for name in map(_text, group.attrs["weight_names"]):
            if len(arrays) > most:
                return arrays
            if getattr(group[name], "external", None):
                raise ValueError(f"{name} lies in another file")
            arrays.append((name, group[name]))
    return arrays


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
