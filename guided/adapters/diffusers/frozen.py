"""Networks as they are run: frozen, and laid out in memory for fast convolutions."""

__all__ = ["freeze"]

from torch import bfloat16, channels_last, contiguous_format, float16, nn


def freeze(net: nn.Module, last: bool | None = None) -> None:
    """Puts a network into evaluation mode, without gradients.

    Args:
        net: The network; the values of its weights do not change.
        last: Whether kernels of convolutions are stored with channels last, which the layers after them then take up;
            None for on a CPU or in half precision.
    """
    for weight in net.eval().requires_grad_(False).parameters():
        fast = weight.device.type == "cpu" or weight.dtype in (float16, bfloat16)
        if weight.ndim == 4 and (fast or last is not None):
            layout = contiguous_format if last is False else channels_last
            weight.data = weight.data.contiguous(memory_format=layout)
