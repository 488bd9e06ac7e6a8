r"""Images resized as Pillow does it, on the device that they are on, to the last bit.

A side of `n` pixels becomes one of `m`: with :math:`s = n / m` and :math:`f = \max(s, 1)`, output j is the mean of the
inputs i that are near its centre, weighted by a kernel that is stretched where the image is reduced:

    y_j = sum_i w_ij x_i / sum_i w_ij        w_ij = kernel((i + 1/2 - (j + 1/2) s) / f)

A kernel has a support r, and the inputs between (j + 1/2) s - r f and (j + 1/2) s + r f, both rounded, take part.
Columns and rows are resized one after the other, and after each pass values are whole numbers from 0 to 255 again.
Weights are whole numbers too, in units of 2^-22, and a sum is rounded once.

Which pass is the first depends on Pillow's version, and from 13.0 on on the sizes: Pillow is asked, once for each size.

Here a pass is a product of matrices in float64. It is exact, as sums are whole numbers below 2^31 in those units, so
that neither the order of addition nor the device matters. Outputs are taken in blocks, as only the inputs near a block
matter to it.

References:
    | Pillow, Concepts, Filters comparison table
    | https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters
"""

__all__ = ["KERNELS", "resize"]

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Array = NDArray[np.float64]

BITS = 22  # of a weight, after the point
BLOCK = 32  # outputs that are computed together
PROBES = 8  # images that are tried to find out which pass is the first


def resize(x: Tensor, height: int, width: int, kernel: str = "bicubic") -> Tensor:
    """Images of another size, equal to those of `PIL.Image.resize`.

    Args:
        x: uint8, with shape `(*, H, W)`.
        height: The new height, at least 1.
        width: The new width.
        kernel: "bilinear", "bicubic" or "lanczos".

    Returns:
        uint8, with shape `(*, height, width)`, on the same device.
    """
    if x.device.type == "mps":  # which has no float64
        return resize(x.cpu(), height, width, kernel).to(x.device)
    for vertical in (True, False) if vertical_first(*x.shape[-2:], height, width, kernel) else (False, True):
        if vertical and height != x.shape[-2]:
            x = _pass(x, height, kernel)
        elif not vertical and width != x.shape[-1]:
            x = _pass(x.transpose(-1, -2), width, kernel).transpose(-1, -2)
    return x


def _pass(x: Tensor, size: int, kernel: str) -> Tensor:
    """uint8 `(*, n, l)` -> `(*, size, l)`."""
    parts = []
    for start, stop, weights in _blocks(x.shape[-2], size, kernel, x.device):
        mean = weights @ x[..., start:stop, :].double()
        parts.append(mean.add_(0.5).floor_().clamp_(0, 255).to(torch.uint8))
    return torch.cat(parts, dim=-2)


@lru_cache(maxsize=64)
def _blocks(n: int, m: int, kernel: str, device: torch.device) -> Sequence[tuple[int, int, Tensor]]:
    """Parts of the outputs: the first and the last input of each, and the weights `(b, stop - start)`."""
    first, weights = _weights(n, m, kernel)
    found = []
    for j in range(0, m, BLOCK):
        place, rows = first[j : j + BLOCK], weights[j : j + BLOCK]
        start, length = int(place[0]), int(place[-1] - place[0]) + weights.shape[1]
        whole = np.zeros((len(rows), length))
        np.put_along_axis(whole, (place - start)[:, None] + np.arange(weights.shape[1]), rows, axis=1)
        stop = min(n, start + length)  # beyond are weights of 0
        found.append((start, stop, torch.from_numpy(whole[:, : stop - start]).to(device)))
    return found


@lru_cache(maxsize=256)
def vertical_first(height: int, width: int, to_height: int, to_width: int, kernel: str) -> bool:
    """Whether Pillow resizes the height before the width, found out with images of noise."""
    numbers, method = np.random.default_rng(0), getattr(Image.Resampling, kernel.upper())
    for _ in range(PROBES if height != to_height and width != to_width else 0):
        image = Image.fromarray(numbers.integers(0, 256, (height, width, 3), dtype=np.uint8))
        one = image.resize((to_width, height), method).resize((to_width, to_height), method).tobytes()
        other = image.resize((width, to_height), method).resize((to_width, to_height), method).tobytes()
        if one != other:
            return image.resize((to_width, to_height), method).tobytes() == other
    return False


def _weights(n: int, m: int, kernel: str) -> tuple[NDArray[np.int64], Array]:
    """The first input of each of `m` outputs `(m,)`, and the weights `(m, k)` from there on, multiples of 2^-22."""
    support, of = KERNELS[kernel]
    scale = n / m
    stretch = max(scale, 1.0)
    centre = (np.arange(m) + 0.5) * scale
    first = np.trunc(centre - support * stretch + 0.5).clip(0).astype(np.int64)
    last = np.trunc(centre + support * stretch + 0.5).clip(max=n).astype(np.int64)
    taps = int((last - first).max())
    weights = np.zeros((m, taps))
    for k in range(taps):
        weights[:, k] = np.where(first + k < last, of((k + first - centre + 0.5) * (1 / stretch)), 0)
    total = np.add.accumulate(weights, axis=1)[:, -1:]  # one by one, as it matters to the last bit
    scaled = weights / np.where(total == 0, 1, total) * 2**BITS
    return first, np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)) / 2**BITS


def _bilinear(x: Array) -> Array:
    return np.maximum(1 - np.abs(x), 0)


def _bicubic(x: Array) -> Array:
    """Keys's, with a = -1/2."""
    a, x = -0.5, np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: Array) -> Array:
    return np.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0)


def _sinc(x: Array) -> Array:
    y = np.where(x == 0, 1, x * math.pi)
    return np.where(x == 0, 1, np.sin(y) / y)


#: The support of each kernel and the kernel, which is 0 beyond it.
KERNELS: dict[str, tuple[float, Callable[[Array], Array]]] = {
    "bilinear": (1.0, _bilinear),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, _lanczos),
}
