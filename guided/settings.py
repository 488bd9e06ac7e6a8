"""Networks of ours have their own type, device and precision, whatever torch's global settings are outside."""

__all__ = ["torch_defaults"]

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

KINDS = ("cpu", "cuda", "mps")  # of devices, each with an autocast of its own


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Within, float32 is the default type and the CPU the default device, and there is no autocast; also a decorator.

    Sets only what is set otherwise: a default device costs time in every call of torch.
    """
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        if before != torch.float32:
            stack.callback(torch.set_default_dtype, before)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        for kind in KINDS:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
