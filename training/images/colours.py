"""Colours of images: names of colours, the main colour, and recolouring."""

__all__ = ["COLOURS", "NAMES", "hsv", "main_colour", "on_white", "recolour", "rgb"]

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Hue in turns, saturation and value of the colours that images are recoloured with.
COLOURS = {
    "red": (0.0, 0.8, 0.87),
    "orange": (0.083, 0.85, 0.97),
    "yellow": (0.14, 0.75, 0.98),
    "green": (0.34, 0.65, 0.68),
    "blue": (0.585, 0.72, 0.88),
    "purple": (0.765, 0.6, 0.72),
    "pink": (0.93, 0.42, 0.97),
    "brown": (0.06, 0.55, 0.5),
    "black": (0.6, 0.08, 0.2),
}
NAMES = (*COLOURS, "grey", "white")


def hsv(rgb: NDArray[Any]) -> NDArray[Any]:
    """`(..., 3)` in [0, 1] as hue in turns, saturation, value."""
    top, low = rgb.max(-1), rgb.min(-1)
    spread = np.where(top > low, top - low, 1)
    r, g, b = np.moveaxis(rgb, -1, 0)
    hue = np.where(top == r, (g - b) / spread % 6, np.where(top == g, (b - r) / spread + 2, (r - g) / spread + 4)) / 6
    return np.stack([np.where(top > low, hue, 0), (top - low) / np.maximum(top, 1e-6), top], -1)


def rgb(x: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `hsv`."""
    k = (np.array([5.0, 3, 1]) + 6 * x[..., :1]) % 6
    return x[..., 2:] * (1 - x[..., 1:2] * np.clip(np.minimum(k, 4 - k), 0, 1))


def colour_names(x: NDArray[Any]) -> NDArray[Any]:
    """The index in `NAMES` of `(..., 3)` hue, saturation and value."""
    hue, saturation, value = np.moveaxis(x, -1, 0)
    chromatic = [
        ((hue < 0.05) | (hue > 0.955)) & (saturation < 0.5) & (value > 0.75),
        (hue < 0.05) | (hue > 0.965),
        (hue < 0.11) & ((value < 0.72) | (saturation < 0.45)),
        hue < 0.11,
        hue < 0.19,
        hue < 0.46,
        hue < 0.7,
        (hue < 0.8) | (value < 0.55),
        hue <= 1,
    ]
    index = ["pink", "red", "brown", "orange", "yellow", "green", "blue", "purple", "pink"]
    grey = [value < 0.3, (saturation < 0.18) & (value > 0.85), saturation < 0.18]
    codes = [NAMES.index(name) for name in ("black", "white", "grey", *index)]
    return np.select([*grey, *chromatic], codes)


def on_white(image: NDArray[Any]) -> NDArray[Any]:
    """`(64, 64, 3)` bytes out of `(64, 64, 4)`."""
    opacity = image[..., 3:] / 255
    return (image[..., :3] * opacity + 255 * (1 - opacity)).round().astype(np.uint8)


def main_colour(image: NDArray[Any], opacity: NDArray[Any] | None = None) -> str:
    """The name of the most frequent colour of `(64, 64, 3)` bytes; without an opacity, white is not counted.

    Colours without a hue count half, because outlines, shadows and glass are grey in images of any colour.
    """
    codes = colour_names(hsv(image / 255.0))
    kept = codes != NAMES.index("white") if opacity is None else opacity > 128
    counts = np.bincount(codes[kept], minlength=len(NAMES)) * np.array(
        [0.5 if n in ("black", "grey", "white") else 1 for n in NAMES]
    )
    return NAMES[int(counts.argmax())] if counts.any() else "white"


def recolour(image: NDArray[Any], colour: str) -> NDArray[Any]:
    """The image, `(64, 64, 4)` bytes, with another main colour; lights, shadows and other colours are kept."""
    x = hsv(image[..., :3] / 255.0)
    own = NAMES.index(main_colour(image[..., :3], image[..., 3]))
    part = (colour_names(x) == own) & (image[..., 3] > 128)
    if not part.any():
        return image
    middle = np.median(x[part], axis=0)
    near = np.abs((x[..., 0] - middle[0] + 0.5) % 1 - 0.5) < 0.08
    if NAMES[own] in ("black", "grey", "white"):
        near = x[..., 1] < 0.25
    part = near & ((x[..., 1] > 0.2) | (NAMES[own] in ("black", "grey", "white")))
    hue, saturation, value = COLOURS[colour]
    new = np.stack(
        [
            np.full_like(x[..., 0], hue),
            np.clip(saturation + (x[..., 1] - middle[1]), 0.0, 1),
            np.clip(value + 0.8 * (x[..., 2] - middle[2]), 0.05, 1),
        ],
        -1,
    )
    out = np.where(part[..., None], rgb(new), image[..., :3] / 255.0)
    return np.concatenate([(out * 255).round().astype(np.uint8), image[..., 3:]], -1)
