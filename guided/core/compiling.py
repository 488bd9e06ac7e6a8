"""Networks that are compiled, when they are first called, for rows of one number."""

__all__ = ["COMPILATIONS", "ROWS", "check_compile", "check_layout", "compilation_of", "compiled", "micro_batches"]

from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._pytree import tree_map

from guided.core.batching import Evaluator
from guided.errors import GuidedError, nearest, shown

Net = TypeVar("Net", bound=nn.Module)

#: How a network can be compiled, and torch's name for it: "graph" also records CUDA graphs, which spare launches.
COMPILATIONS = {"default": "default", "graph": "reduce-overhead"}
ROWS = 128  # of tokens: the micro-batch of a compiled network, and the largest one, on a CPU
ROWS_ELSEWHERE = 320  # of a compiled network on a GPU, where twice as many rows take less than twice as long
FEWEST = 16  # rows that a CPU takes at least, of however many numbers
CACHED = 2**24  # bytes of a layer's output on a CPU


def check_compile(given: Any, device: torch.device) -> str | None:
    """How a network is to be compiled: None, "default" or "graph"; True and False are read as "default" and None.

    Raises:
        GuidedError: It is something else, or cannot be done on the device.
    """
    how = {True: "default", False: None}[given] if isinstance(given, bool) else given
    if how is None:
        return None
    if not isinstance(how, str) or how not in COMPILATIONS:
        hint = nearest(str(how), COMPILATIONS)
        raise GuidedError(f"compile is {shown(how)}{hint}; it must be {' or '.join(COMPILATIONS)}")
    if how == "graph" and device.type != "cuda":
        raise GuidedError(f"compile is 'graph', which needs a CUDA device, given {device.type}; it may be 'default'")
    return str(how)


def check_layout(channels_last: Any) -> bool | None:
    """Whether convolutions have their channels last in memory; None for where that is known to be fast.

    Raises:
        GuidedError: It is neither true, false nor None.
    """
    if channels_last is not None and not isinstance(channels_last, bool):
        raise GuidedError(f"channels_last is {shown(channels_last)}; it must be true or false")
    return channels_last


def compiled(net: Net, how: str | None) -> Net:
    """The network, compiled; itself for None. The layers are shared."""
    if how is None:
        return net
    found: Any = torch.compile(net, mode=COMPILATIONS[how], dynamic=False)
    vars(found)["compilation"] = how
    if how == "graph":  # a recorded graph writes to the same memory each time: what it wrote before is copied
        found.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())
        found.register_forward_hook(lambda _, __, output: tree_map(torch.clone, output))
    return found


def compilation_of(net: nn.Module) -> str | None:
    """How a network was compiled, by whomever; None where it was not."""
    if not hasattr(net, "_orig_mod"):
        return None
    how: str = vars(net).get("compilation", "default")
    return how


def micro_batches(net: nn.Module, positions: int, device: torch.device, how: str | None) -> Evaluator:
    """The micro-batches of a network of tokens.

    A compiled network takes rows of one number: another would be compiled anew. On a CPU a layer's output should fit
    into the cache, and into what the allocator keeps: more than 32 MB are given back to the system after each layer,
    and fetching them again takes as long as the convolutions. A GPU is given all rows at once.

    Args:
        net: The network.
        positions: The number of positions `L` of a row.
        device: Where it runs.
        how: How it is compiled; None for not at all.
    """
    if how is not None:
        size = ROWS if device.type == "cpu" else ROWS_ELSEWHERE
        return Evaluator(size, device, least=size)
    if device.type != "cpu":
        return Evaluator(device=device)
    rows = CACHED // (4 * positions * _widest(net)) // FEWEST * FEWEST
    return Evaluator(min(ROWS, max(FEWEST, rows)), device, even=True)


def _widest(net: nn.Module) -> int:
    """The largest number of outputs of a layer at a position."""
    sizes = (getattr(layer, name, 1) for layer in net.modules() for name in ("out_features", "out_channels"))
    return max(int(size) for size in sizes)
