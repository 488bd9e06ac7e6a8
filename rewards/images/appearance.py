"""Rewards of images that need the pixels only: size as a JPEG, light, colour, symmetry, sharpness.

A sample is an image or a video (:mod:`guided.rewards.images.pixels`); a video scores the mean over its frames.

Luma is that of Rec. 601, Y = .299 R + .587 G + .114 B, of the gamma-encoded values. Except where it is said otherwise
values are in [0, 1]. All but the size as a JPEG are computed where the pixels are, from whole numbers as far as
possible: a score does not depend on the batch or the device.

References:
    | Training diffusion models with reinforcement learning
    | (Black, Janner, Du, Kostrikov and Levine, 2023, https://arxiv.org/abs/2305.13301): compressibility

    | Measuring colourfulness in natural images
    | (Hasler and Süsstrunk, SPIE Human Vision and Electronic Imaging VIII, 87, 2003)

    | Diatom autofocusing in brightfield microscopy: a comparative study
    | (Pech-Pacheco, Cristóbal, Chamorro-Martínez and Fernández-Valdivia, ICPR, 2000): the variance of the Laplacian
"""

__all__ = [
    "brightness",
    "colourfulness",
    "compressibility",
    "contrast",
    "incompressibility",
    "lab",
    "sharpness",
    "symmetry",
    "target_colour",
]

import os
import re
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from threading import local
from typing import IO

import torch
from PIL import Image, ImageColor
from torch import Tensor

from guided.errors import GuidedError, nearest
from guided.rewards.images.pixels import Images, Scores, per_image, per_pixels
from guided.scoring.registry import register_reward

_own = local()  # of each thread
_LUMA = 1000 * 255  # of white, in the units that luma is computed in
# sRGB, linear, to XYZ; IEC 61966-2-1
_XYZ = [[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.95030]]
_LAB = [[0, 116, 0], [500, -500, 0], [0, 200, -200]]


@register_reward("compressibility", modality="images", workers="threads")
def compressibility(samples: Images) -> Scores:
    """Minus the size as a JPEG of quality 95, in kB (1000 bytes): smooth images score high."""
    return per_image(samples, lambda image: -_kilobytes(image))


@register_reward("incompressibility", modality="images", workers="threads")
def incompressibility(samples: Images) -> Scores:
    """Size as a JPEG of quality 95, in kB (1000 bytes): images full of detail score high."""
    return per_image(samples, _kilobytes)


@register_reward("brightness", takes="pixels", differentiable=True)
def brightness(samples: Images) -> Scores:
    """Mean luma, 0 (black) to 1 (white)."""
    return per_pixels(samples, lambda x: _mean(_luma(x)) / _LUMA)


@register_reward("contrast", takes="pixels")
def contrast(samples: Images) -> Scores:
    """Standard deviation of the luma, 0 to 0.5."""
    return per_pixels(samples, lambda x: _variance(_luma(x)).sqrt() / _LUMA)


@register_reward("colourfulness", takes="pixels")
def colourfulness(samples: Images) -> Scores:
    """Colourfulness of Hasler and Süsstrunk: 0 for greys, 33 moderate, 82 high, on a scale of 255.

    With rg = R - G and yb = (R + G) / 2 - B it is |standard deviations| + 0.3 |means| of the two.
    """
    return per_pixels(samples, _colourfulness)


def _check_colour(colour: str) -> None:
    _rgb(colour)


@register_reward("target_colour", takes="pixels", check=_check_colour, differentiable=True)
def target_colour(samples: Images, colour: str) -> Scores:
    """Minus the mean distance of the pixels to a colour, in CIELAB: 0 for that colour, -100 from black to white.

    The distance is CIE76's, 2.3 is just noticeable. A share of pixels that are near enough would be easier to read, but
    it is 0 for nearly every image, and says nothing about which of them is on its way.

    Args:
        samples: n samples.
        colour: A name of CSS ("red") or a code ("#ff0000", "ff0000").

    Raises:
        ValueError: There is no such colour.
    """
    rgb = _rgb(colour)
    return per_pixels(samples, lambda x: -_distance(x, rgb))


@register_reward("symmetry", takes="pixels")
def symmetry(samples: Images) -> Scores:
    """1 minus the mean difference between an image and its mirror image, left to right: 1 where they are the same."""
    return per_pixels(samples, lambda x: 1 - _mean((x.float() - x.flip(-1).float()).abs().flatten(1)) / 255)


@register_reward("sharpness", takes="pixels")
def sharpness(samples: Images) -> Scores:
    """Variance of the Laplacian of the luma, on a scale of 255: low where an image is blurred, high with noise too.

    Raises:
        ValueError: An image has fewer than 3 x 3 pixels.
    """
    return per_pixels(samples, _sharpness)


def lab(rgb: Tensor) -> Tensor:
    """From sRGB in [0, 1] to CIELAB under D65, `(..., 3)`: L 0 to 100, a, b."""
    return _lab(_linear(rgb))


def _linear(rgb: Tensor) -> Tensor:
    """Light in proportion to the numbers."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(linear: Tensor) -> Tensor:
    to_xyz, to_lab, offset = _matrices(linear.device, linear.dtype)
    xyz = linear @ to_xyz
    low = (6 / 29) ** 3
    root = xyz.clamp(min=low) ** (1 / 3)  # at 0 it has no gradient
    f = torch.where(xyz > low, root, xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return f @ to_lab - offset


@lru_cache(maxsize=8)
def _matrices(place: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """To XYZ, divided by the white of D65, then to Lab, and what is subtracted."""
    xyz, to_lab, offset = (torch.tensor(x, dtype=dtype, device=place) for x in (_XYZ, _LAB, [16, 0, 0]))
    return (xyz / xyz.sum(dim=1, keepdim=True)).T, to_lab.T, offset


def _distance(x: Tensor, rgb: Sequence[int]) -> Tensor:
    """The mean distance to a colour in Lab, `(m, 3, H, W)` to `(m,)`."""
    levels = torch.arange(256, device=x.device, dtype=_wide(x)) / 255
    linear = _linear(levels)
    target, x = _lab(torch.stack([linear[level] for level in rgb])), x.movedim(1, -1)
    light = _linear(x.to(levels) / 255) if x.requires_grad else linear[x.int()]
    return torch.linalg.vector_norm(_lab(light) - target, dim=-1).mean(dim=(1, 2))


def _kilobytes(image: Image.Image) -> float:
    file = _scratch()
    file.seek(0)
    image.save(file, format="JPEG", quality=95)
    return file.tell() / 1000


def _scratch() -> IO[bytes]:
    """A file of this thread, in memory where that can be had.

    Pillow gives up Python's lock while it encodes into a file, and holds it while it does into bytes: two threads took
    longer than one. A process that was forked has its own file, for those of its parent have one position for both.
    """
    if getattr(_own, "process", None) != os.getpid():
        memory = os.fdopen(os.memfd_create("jpeg"), "w+b", 0) if hasattr(os, "memfd_create") else None
        _own.file, _own.process = memory or tempfile.TemporaryFile(buffering=0), os.getpid()  # noqa: SIM115
    return _own.file


def _wide(x: Tensor) -> torch.dtype:
    """The type that sums are taken in."""
    return torch.float32 if x.device.type == "mps" else torch.float64  # MPS has no float64


def _luma(x: Tensor) -> Tensor:
    """Whole numbers `(m, H, W)` from 0 to `_LUMA`, which float32 holds as they are."""
    red, green, blue = x.float().unbind(dim=1)
    return 299 * red + 587 * green + 114 * blue


def _mean(y: Tensor) -> Tensor:
    """`(m, *)` to `(m,)`."""
    return y.flatten(1).mean(dim=1, dtype=_wide(y))


def _variance(y: Tensor) -> Tensor:
    """Of whole numbers, `(m, *)` to `(m,)`: around a whole number near the mean, so that the differences are exact."""
    y, mean = y.flatten(1), _mean(y)
    centre = mean.round()
    squares = (y - centre[:, None].to(y.dtype)).to(_wide(y)).square().mean(dim=1)
    return (squares - (mean - centre) ** 2).clamp(min=0)


def _colourfulness(x: Tensor) -> Tensor:
    red, green, blue = x.float().unbind(dim=1)
    opponents = [2 * (red - green), red + green - 2 * blue]  # doubled, to be whole numbers
    spread = sum(_variance(y) for y in opponents) ** 0.5
    return (spread + 0.3 * torch.hypot(*map(_mean, opponents))) / 2


def _sharpness(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    if min(height, width) < 3:
        raise GuidedError(f"sharpness needs images of at least 3 x 3 pixels, given {width} x {height}")
    y = _luma(x)
    around = y[:, 1:-1, :-2] + y[:, 1:-1, 2:] + y[:, :-2, 1:-1] + y[:, 2:, 1:-1]
    return _variance(around - 4 * y[:, 1:-1, 1:-1]) / 1000**2


def _rgb(colour: str) -> tuple[int, ...]:
    code = f"#{colour}" if re.fullmatch(r"[0-9a-fA-F]{6}", colour) else colour
    try:
        return ImageColor.getrgb(code)[:3]
    except ValueError:
        hint = nearest(colour, ImageColor.colormap)
        raise GuidedError(
            f"unknown colour {colour!r}{hint}; a name of CSS or a code like #ff0000 is accepted"
        ) from None
