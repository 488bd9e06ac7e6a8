"""The networks of rewards run on the model's device, in a stated precision, whatever torch's global settings are.

| precision | what is computed |
|---|---|
| "float32" | single precision; TF32, which torch allows in convolutions on a GPU, is switched off |
| "tf32" | single precision, products of ten bits on a GPU that has them |
| "bfloat16", "float16" | layers in half precision, by torch's autocast; for images the weights, too |

A reward that lets the user choose has a parameter `precision`, so that `run.json` has it with the others.
"""

__all__ = ["Precision", "device_of", "in_precision", "on_device", "own_settings"]

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from threading import Lock
from typing import Any, Literal, ParamSpec, TypeVar, get_args

import torch
from torch import Tensor

from guided.errors import GuidedError, RewardError
from guided.settings import torch_defaults

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
            _switch(stack, on=True)
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
            with torch_defaults(), _exact:
                return function(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            said = " ".join(str(error).split())[:300]
            raise RewardError(f"fails in its own network, no sample is to blame: {said}") from error

    return call


class _Exact:
    """Products of float32 are exact while any thread is inside. The switches are the process's: the last out restores.

    Torch rounds convolutions to TF32 by default where the card can.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.restore = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                _switch(self.restore, on=False)
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.restore.close()


_exact = _Exact()


def _switch(stack: ExitStack, on: bool) -> None:
    """Switches TF32 until the stack is closed: by torch's older names, or the newer ones where somebody used those."""
    backends: Any = torch.backends
    try:
        before = torch.get_float32_matmul_precision()
        stack.callback(torch.set_float32_matmul_precision, before)
        torch.set_float32_matmul_precision("high" if on else "highest")
    except RuntimeError:
        _set(stack, backends.cuda.matmul, "fp32_precision", "tf32" if on else "ieee")
        _set(stack, backends.mkldnn.matmul, "fp32_precision", "ieee")
    try:
        _set(stack, backends.cudnn, "allow_tf32", on)
    except RuntimeError:
        _set(stack, backends.cudnn.conv, "fp32_precision", "tf32" if on else "ieee")


def _set(stack: ExitStack, owner: Any, name: str, value: object) -> None:
    before = getattr(owner, name)
    if before != value:
        stack.callback(setattr, owner, name, before)
        setattr(owner, name, value)
