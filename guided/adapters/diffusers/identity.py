"""Digests of a pipeline's networks, and of what it is given."""

__all__ = ["digest_of_values", "fingerprint"]

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from guided.storage import digest_of


def fingerprint(networks: Mapping[str, Any], before: str = "") -> str:
    """A digest of the networks among some components, from a few entries of every weight: quick for large networks."""
    sha = hashlib.sha256(before.encode())
    for name, module in sorted(networks.items()):
        if not isinstance(module, torch.nn.Module):
            continue
        for key, weight in getattr(module, "_orig_mod", module).state_dict().items():  # compiled or not
            sha.update(f"{name}.{key}{tuple(weight.shape)}".encode())
            if weight.device.type != "meta":
                some = weight.flatten()[:: max(1, weight.numel() // 16)]
                sha.update(some.detach().float().cpu().numpy().tobytes())
    return sha.hexdigest()


def digest_of_values(value: Any) -> str:
    """A digest of texts, numbers, arrays, images, and lists and mappings of them; of other objects, of their repr."""
    if isinstance(value, Mapping):
        return digest_of(" ".join(f"{key}:{digest_of_values(entry)}" for key, entry in sorted(value.items())))
    if isinstance(value, list | tuple):
        return digest_of(" ".join(map(digest_of_values, value)))
    if value is None or isinstance(value, str | int | float):
        return digest_of(repr(value))
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().float()
    pixels = np.ascontiguousarray(value)
    if pixels.dtype == object:
        return digest_of(repr(value))
    return digest_of(f"{pixels.dtype} {pixels.shape} ".encode() + pixels.tobytes())
