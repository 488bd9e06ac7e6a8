"""Rewards of images that need the pixels only: size as a JPEG, light, colour, symmetry, sharpness.

A sample is an image or a video (:mod:`guided.rewards.images.pixels`); a video scores the mean over its frames.

Luma is that of Rec. 601, Y = .299 R + .587 G + .114 B, of the gamma-encoded values. Except where it is said otherwise
values are in [0, 1].

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

import re
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from guided.errors import GuidedError, nearest
from guided.rewards.images.pixels import Images, Scores, per_image, pixels
from guided.scoring.registry import register_reward

_LUMA = np.array([0.299, 0.587, 0.114])
# sRGB, linear, to XYZ, divided by the white of D65; IEC 61966-2-1
_XYZ = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.95030]])
_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]])


@register_reward("compressibility", modality="images")
def compressibility(samples: Images) -> Scores:
    """Minus the size as a JPEG of quality 95, in kB (1000 bytes): smooth images score high."""
    return per_image(samples, lambda image: -_kilobytes(image))


@register_reward("incompressibility", modality="images")
def incompressibility(samples: Images) -> Scores:
    """Size as a JPEG of quality 95, in kB (1000 bytes): images full of detail score high."""
    return per_image(samples, _kilobytes)


@register_reward("brightness", modality="images")
def brightness(samples: Images) -> Scores:
    """Mean luma, 0 (black) to 1 (white)."""
    return per_image(samples, lambda image: float(_luma(image).mean()))


@register_reward("contrast", modality="images")
def contrast(samples: Images) -> Scores:
    """Standard deviation of the luma, 0 to 0.5."""
    return per_image(samples, lambda image: float(_luma(image).std()))


@register_reward("colourfulness", modality="images")
def colourfulness(samples: Images) -> Scores:
    """Colourfulness of Hasler and Süsstrunk: 0 for greys, 33 moderate, 82 high, on a scale of 255.

    With rg = R - G and yb = (R + G) / 2 - B it is |standard deviations| + 0.3 |means| of the two.
    """
    return per_image(samples, _colourfulness)


def _check_colour(colour: str) -> None:
    _rgb(colour)


@register_reward("target_colour", modality="images", check=_check_colour)
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
    target = lab(np.array(_rgb(colour)) / 255)
    return per_image(samples, lambda image: -float(np.linalg.norm(lab(pixels(image)) - target, axis=-1).mean()))


@register_reward("symmetry", modality="images")
def symmetry(samples: Images) -> Scores:
    """1 minus the mean difference between an image and its mirror image, left to right: 1 where they are the same."""
    return per_image(samples, lambda image: 1 - float(np.abs(pixels(image) - pixels(image)[:, ::-1]).mean()))


@register_reward("sharpness", modality="images")
def sharpness(samples: Images) -> Scores:
    """Variance of the Laplacian of the luma, on a scale of 255: low where an image is blurred, high with noise too.

    Raises:
        ValueError: An image has fewer than 3 x 3 pixels.
    """
    return per_image(samples, _sharpness)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """From sRGB in [0, 1] to CIELAB under D65, `(..., 3)`: L 0 to 100, a, b."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ.T / _XYZ.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.asarray(f @ _LAB.T - np.array([16, 0, 0]))


def _kilobytes(image: Image.Image) -> float:
    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=95)
    return buffer.tell() / 1000


def _luma(image: Image.Image) -> NDArray[np.float64]:
    """`(H, W)`, in [0, 1]."""
    return np.asarray(pixels(image) @ _LUMA)


def _colourfulness(image: Image.Image) -> float:
    red, green, blue = np.moveaxis(255 * pixels(image), -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue]).reshape(2, -1)
    return float(np.linalg.norm(opponents.std(axis=1)) + 0.3 * np.linalg.norm(opponents.mean(axis=1)))


def _sharpness(image: Image.Image) -> float:
    if min(image.size) < 3:
        raise GuidedError(f"sharpness needs images of at least 3 x 3 pixels, given {image.width} x {image.height}")
    y = 255 * _luma(image)
    return float((y[1:-1, :-2] + y[1:-1, 2:] + y[:-2, 1:-1] + y[2:, 1:-1] - 4 * y[1:-1, 1:-1]).var())


def _rgb(colour: str) -> tuple[int, ...]:
    code = f"#{colour}" if re.fullmatch(r"[0-9a-fA-F]{6}", colour) else colour
    try:
        return ImageColor.getrgb(code)[:3]
    except ValueError:
        hint = nearest(colour, ImageColor.colormap)
        raise GuidedError(
            f"unknown colour {colour!r}{hint}; a name of CSS or a code like #ff0000 is accepted"
        ) from None
