"""The networks of rewards run with settings of their own, whatever torch's global ones are."""

__all__ = ["device_of", "on_device", "own_settings"]

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from guided.errors import RewardError

P = ParamSpec("P")
R = TypeVar("R")

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


def own_settings(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the function runs with float32 as default type, on the CPU as default device, without autocast.

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
        yield
