"""The state of a training in half the bytes, for a network whose state would be too large to carry about.

| saved | as |
|---|---|
| running averages | float16, as an export writes them: what is exported is the same |
| weights | float16, their difference from the saved average |
| what optimizers keep (first and second moments) | bfloat16, as second moments need its range |

A weight differs from its average by little, so that it comes back within 2^-11 of that difference, where float16 alone
would leave 2^-11 of the weight; a moment comes back within 2^-8 of itself. The training goes on in full precision: each
resumption rounds once, and the moments forget it at the pace of their decay (training/README.md has how far that leads
away). A tensor with numbers that float16 cannot hold stays as it is.
"""

__all__ = ["halved", "whole"]

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

MARK = "halved"  # an entry of such a state


def halved(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a training whose weights are float32, in half the bytes."""
    average = {**state["average"]}
    weights = {}
    for name, weight in state["weights"].items():
        average[name] = _narrowed(average[name], torch.float16)
        weights[name] = _narrowed(weight.detach() - average[name].float(), torch.float16)
    moments = _mapped(state["optimizers"], lambda t: _narrowed(t, torch.bfloat16) if t.ndim else t)
    return {**state, "weights": weights, "average": average, "optimizers": moments, MARK: True}


def whole(state: dict[str, Any]) -> dict[str, Any]:
    """The state with float32 weights, averages and moments again; one that is not halved stays as it is."""
    if not state.get(MARK):
        return state
    average = {name: t.float() if name in state["weights"] else t for name, t in state["average"].items()}
    weights = {name: average[name] + difference.float() for name, difference in state["weights"].items()}
    moments = _mapped(state["optimizers"], lambda t: t.float() if t.dtype == torch.bfloat16 else t)
    return {**state, "weights": weights, "average": average, "optimizers": moments}


def _narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A float32 tensor in another type; as it is if that would make a number infinite, and any other tensor."""
    if tensor.dtype != torch.float32:
        return tensor
    narrow = tensor.to(dtype)
    return narrow if narrow.isfinite().all() else tensor


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested dictionaries, lists and tuples with their tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(entry, change) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(entry, change) for entry in value)
    return value
