"""What a training on a GPU of Nvidia's sets and measures once, before the network is compiled."""

__all__ = ["quicker_layout", "use_tensor_cores"]

import time

import torch
from torch import Tensor

from guided.nets.convolution import TokenConvolution

LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


def use_tensor_cores() -> None:
    """Lets float32 products be TF32, and cuDNN try its kernels for each shape and keep the quickest."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def quicker_layout(net: TokenConvolution, x: Tensor, label: Tensor, repeats: int = 5) -> torch.memory_format:
    """The layout of convolutions in which a forward and a backward pass of a batch take the least time, uncompiled.

    Which one it is depends on the kernels that a GPU's library has for dilated convolutions in bfloat16.
    """
    seconds = {}
    for name, layout in LAYOUTS.items():
        net.layout = layout
        seconds[name] = min(_seconds(net, x, label) for _ in range(repeats))
    print("forward and backward, ms: " + ", ".join(f"{name} {1e3 * s:.1f}" for name, s in seconds.items()), flush=True)
    net.zero_grad(set_to_none=True)
    return LAYOUTS[min(seconds, key=lambda name: seconds[name])]


def _seconds(net: TokenConvolution, x: Tensor, label: Tensor) -> float:
    """The time of a forward and a backward pass; reading the loss waits for the device."""
    start = time.perf_counter()
    with torch.autocast(x.device.type, torch.bfloat16):
        loss = net(x, label).float().square().mean()
    torch.autograd.backward(loss)
    next(net.parameters()).grad.sum().item()  # type: ignore[union-attr]
    return time.perf_counter() - start
