"""The networks of rewards run on the model's device, in a stated precision, whatever torch's global settings are.

| precision | what is computed |
|---|---|
| "float32" | single precision; TF32, which torch allows in convolutions on a GPU, is switched off |
| "tf32" | single precision, products of ten bits on a GPU that has them |
| "bfloat16", "float16" | layers in half precision, by torch's autocast |

A reward that lets the user choose has a parameter `precision`, so that `run.json` has it with the others.
"""

__all__ = ["Precision", "device_of", "in_precision", "on_device", "own_settings"]

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Literal, ParamSpec, TypeVar, get_args

import torch
from torch import Tensor

from guided.errors import GuidedError, RewardError

P = ParamSpec("P")
R = TypeVar("R")
Precision = Literal["float32", "tf32", "bfloat16", "float16"]

_device: ContextVar[torch.device | None] = ContextVar("device", default=None)


@contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """The networks of rewards run on this device, that of the model, within the context."""
    token = _device.set(device)
    try:
        yield
    finally:
        _device.reset(token)


def device_of(samples: object) -> torch.device:
    """Where a network scores samples: a tensor's device; else the model's; else, outside of a run, a GPU if any."""
    if isinstance(samples, Tensor):
        return samples.device
    return _device.get() or torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def in_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Networks on the device run in this precision within the context, which is one of `own_settings`.

    Raises:
        GuidedError: There is no such precision.
    """
    if precision not in get_args(Precision):
        raise GuidedError(f"precision is one of {', '.join(get_args(Precision))}, given {precision!r}")
    with ExitStack() as stack:
        if precision == "tf32" and device.type == "cuda":
            stack.enter_context(_products("tf32"))
        if precision in ("bfloat16", "float16"):
            stack.enter_context(torch.autocast(device.type, getattr(torch, precision)))
        yield


def own_settings(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the function has float32 as default type, the CPU as default device, no autocast, and no TF32.

    What torch itself refuses in there is no sample's fault, and never counted as one; too little memory may be.

    Raises:
        RewardError: torch raised something.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _settings():
                return function(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            said = " ".join(str(error).split())[:300]
            raise RewardError(f"fails in its own network, no sample is to blame: {said}") from error

    return call


@contextmanager
def _settings() -> Iterator[None]:
    """Sets only what is set otherwise: a default device costs time in every call of torch."""
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        if before != torch.float32:
            stack.callback(torch.set_default_dtype, before)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_float32_matmul_precision() != "highest" or torch.backends.cudnn.is_available():
            stack.enter_context(_products("ieee"))
        yield


@contextmanager
def _products(kind: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Products of float32 are exact, or of ten bits."""
    before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    torch.set_float32_matmul_precision("highest" if kind == "ieee" else "high")
    own = {"benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    try:
        with cudnn.flags(enabled=cudnn.enabled, allow_tf32=kind == "tf32", **own):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
