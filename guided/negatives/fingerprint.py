"""The fingerprint of a network: by it a negative checkpoint recognises the base that it was trained from."""

__all__ = ["equal_weights", "fingerprint", "same_fingerprint"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from guided.storage import digest_of

PROBES = 256
WRITTEN = 1e-6  # entries are written with nine decimals


def fingerprint(module: nn.Module) -> dict[str, Any]:
    """JSON-able: a digest of names and shapes, the precision, and up to 256 entries in single precision."""
    state = dict(sorted(module.state_dict().items()))
    layers = digest_of("\n".join(f"{key}{tuple(w.shape)}" for key, w in state.items()))
    weights = [w for w in state.values() if w.is_floating_point() and w.numel()]
    some = weights[:: max(1, len(weights) // PROBES)]
    entries = [round(float(w.detach().flatten()[w.numel() // 2]), 9) for w in some]
    coarsest = max({w.dtype for w in weights}, key=lambda dtype: torch.finfo(dtype).eps)
    return {"layers": layers, "dtype": str(coarsest).removeprefix("torch."), "entries": entries}


def same_fingerprint(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[bool, float]:
    """Whether two fingerprints are of the same weights, up to the coarser precision, and the distance between them.

    The distance is that of the entries, relative to their size; infinite if the layers differ.
    """
    if one["layers"] != other["layers"] or len(one["entries"]) != len(other["entries"]):
        return False, float("inf")
    a, b = (torch.tensor(part["entries"], dtype=torch.float64, device="cpu") for part in (one, other))
    distance = float((a - b).abs().sum() / a.abs().sum().clamp(min=1e-12))
    precision = max(torch.finfo(getattr(torch, part["dtype"])).eps for part in (one, other))
    return distance <= (WRITTEN if one["dtype"] == other["dtype"] else 2 * precision), distance


def equal_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks of the same layers have the same weights, in the precision of the second one."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(
        w.shape == b[key].shape and bool((w.to(b[key]) == b[key]).all()) for key, w in a.items()
    )
