"""Global settings of torch that a user may have: the networks of rewards have their own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

FOREIGN = ("float64", "float16", "meta", "autocast")


@contextmanager
def foreign(name: str) -> Iterator[None]:
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, before)
        if name == "meta":
            stack.enter_context(torch.device("meta"))
        elif name == "autocast":
            stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        else:
            torch.set_default_dtype(getattr(torch, name))
        yield
