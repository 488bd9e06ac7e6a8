"""Tensors in safetensors files."""

__all__ = ["read_tensors", "write_network", "write_tensors"]

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from guided.errors import GuidedError
from guided.storage.files import whole


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        GuidedError: The file is truncated, missing, or not a safetensors file.
    """
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError) as error:
        raise GuidedError(f"{path} is truncated, or no safetensors file ({error})") from error


def write_network(file: Path, net: nn.Module) -> None:
    """Writes the weights of a network whole."""
    write_tensors(file, net.state_dict())


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors whole, as safetensors, in their own precision.

    Raises:
        GuidedError: The folder cannot be written, or the disk is full.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole(file) as part:
        try:
            save_file(ready, part, metadata=metadata)
        except SafetensorError as error:  # it hides the OSError
            raise OSError(str(error)) from error
