"""Networks as they are run: frozen, and laid out in memory for fast convolutions."""

__all__ = ["freeze"]

from torch import bfloat16, channels_last, float16, nn


def freeze(net: nn.Module) -> None:
    """Puts a network into evaluation mode, without gradients.

    Kernels of convolutions are stored with channels last on a CPU or in half precision; their values do not change.
    """
    for weight in net.eval().requires_grad_(False).parameters():
        if weight.ndim == 4 and (weight.device.type == "cpu" or weight.dtype in (float16, bfloat16)):
            weight.data = weight.data.contiguous(memory_format=channels_last)
