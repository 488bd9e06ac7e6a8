"""Quality of an image without another to compare with: PIQE.

The luma y is made locally standard: with a Gaussian window of 7 x 7, standard deviation 7/6, for the local mean mu and
the local deviation sigma, each pixel becomes (y - mu) / (sigma + 1). Blocks of 16 x 16 whose variance v is above 0.1
are active, and only they are looked at, for flat edges (blockiness, blur) and for noise:

    flat edges    some run of 6 pixels along one of the block's four edges has a deviation below 0.1; costs 1 - v
    noise         s > 2 |s - c| / max(s, c), with s = sqrt(v) and c the ratio of the deviation of the two middle columns
                  to that of the rest; costs v

    PIQE = 100 (costs + 1) / (active blocks + 1)

It is 100 for an image without active blocks; small images have few blocks, and fine detail that fills them reads as
noise. It is written here from the paper: the package of PyPI, pypiqe 1.2, needs OpenCV, scales each image by its
brightest pixel, and takes another column for one of the middle ones.

References:
    | Blind image quality evaluation using perception based features
    | (Venkatanath, Praneeth, Bh, Channappayya and Medasani, National Conference on Communications, 2015)
"""

__all__ = ["piqe"]

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from guided.rewards.images.pixels import Images, Scores, per_image
from guided.scoring.registry import register_reward

BLOCK, RUN, ACTIVE, FLAT = 16, 6, 0.1, 0.1
_WINDOW = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))

Array = NDArray[np.float64]


@register_reward("piqe", modality="images")
def piqe(samples: Images) -> Scores:
    """Minus PIQE, the distortion seen in an image alone, -100 (bad) to 0: punishes noise, blur and blocks."""
    return per_image(samples, lambda image: -_piqe(image))


def _piqe(image: Image.Image) -> float:
    luma = np.asarray(image.convert("L"), dtype=np.float64)
    edges = [(0, -size % BLOCK) for size in luma.shape]
    standard = _standard(np.pad(luma, edges, mode="symmetric"))
    rows, columns = (size // BLOCK for size in standard.shape)
    blocks = standard.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
    variance = blocks.var(axis=(1, 2), ddof=1)
    active = variance > ACTIVE
    blocks, variance = blocks[active], variance[active]
    costs = np.where(_flat_edges(blocks), 1 - variance, 0) + np.where(_noisy(blocks, np.sqrt(variance)), variance, 0)
    return float(100 * (costs.sum() + 1) / (len(blocks) + 1))


def _standard(luma: Array) -> Array:
    """`(y - mu) / (sigma + 1)`, pixel by pixel."""
    mean = _blurred(luma)
    deviation = np.sqrt(np.abs(_blurred(luma * luma) - mean * mean))
    return (luma - mean) / (deviation + 1)


def _blurred(values: Array) -> Array:
    """The mean in a Gaussian window of 7 x 7; beyond the border is the border."""
    window = _WINDOW / _WINDOW.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(3, 3) if axis == i else (0, 0) for i in (0, 1)], mode="edge")
        values = sliding_window_view(padded, 7, axis=axis) @ window
    return values


def _flat_edges(blocks: Array) -> NDArray[np.bool_]:
    """Which of the blocks `(b, 16, 16)` have a flat run on an edge, with shape `(b,)`."""
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)
    runs = sliding_window_view(edges, RUN, axis=2).std(axis=-1, ddof=1)
    return np.asarray((runs < FLAT).any(axis=(1, 2)))


def _noisy(blocks: Array, deviation: Array) -> NDArray[np.bool_]:
    """Which of the blocks `(b, 16, 16)`, with these standard deviations `(b,)`, are noisy, with shape `(b,)`."""
    middle = [BLOCK // 2 - 1, BLOCK // 2]
    inner, outer = blocks[:, :, middle], np.delete(blocks, middle, axis=2)
    spread = outer.std(axis=(1, 2), ddof=1)
    ratio = inner.std(axis=(1, 2), ddof=1) / np.where(spread > 0, spread, np.inf)
    return np.asarray(deviation > 2 * np.abs(deviation - ratio) / np.maximum(deviation, ratio))
