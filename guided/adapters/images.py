"""Images and masks that a run starts from, read as their files specify.

Orientation (EXIF) is applied, 16 bits are scaled to 8, palettes are looked up, and transparent pixels become white.
What is ambiguous is refused: an animation of several frames, numbers of 32 bits without a range, and a mask that is
drawn in transparency.
"""

__all__ = ["as_image", "as_mask", "as_rgb"]

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from guided.errors import GuidedError, kind_of

_BITS = 258  # the TIFF tag with the number of bits
_STILL = ("MPO",)  # a camera's photograph, followed by others of the same scene


def as_rgb(image: Any) -> Image.Image:
    """An image, or its file, in 8-bit RGB; transparent pixels become white.

    Raises:
        GuidedError: It is not an image, or the meaning of its pixels is ambiguous.
    """
    return _converted(image, _on_white)


def as_mask(mask: Any) -> Image.Image:
    """A mask, or its file, in 8-bit grey.

    Raises:
        GuidedError: It is not an image, the meaning of its pixels is ambiguous, or it is drawn in transparency.
    """
    return _converted(mask, _opaque)


def as_image(source: Any, name: str | None = None) -> Image.Image:
    """A PIL image, or the one in a file, with its pixels read.

    Args:
        source: The image, the file's path, or an open file.
        name: What it is called in messages.

    Raises:
        GuidedError: It is none of these, is damaged, or has several frames.
    """
    if not isinstance(source, Image.Image | str | Path) and not hasattr(source, "read"):
        raise GuidedError(f"an image is {kind_of(source)}; it must be a PIL image or a file's path")
    known = name or ("an image" if isinstance(source, Image.Image) else repr(str(source)))
    try:
        image = source if isinstance(source, Image.Image) else _open(source)
        image.load()
    except FileNotFoundError as error:
        raise GuidedError(f"there is no file {known}") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise GuidedError(f"{known} is no image that can be read: {error}") from error
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _STILL:
        raise GuidedError(f"{known} has {frames} frames; an image is one: save one of them and give that")
    if 0 in image.size:
        raise GuidedError(f"{known} has no pixels: its size is {image.size}")
    return image


def _open(source: str | Path | BinaryIO) -> Image.Image:
    return Image.open(Path(source).expanduser() if isinstance(source, str | Path) else source)


def _converted(source: Any, to: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The image upright, in 8 bits, after a conversion of modes."""
    image = as_image(source)
    try:
        return to(_eight_bits(ImageOps.exif_transpose(image), image))
    except GuidedError:
        raise
    except (ValueError, OSError, SyntaxError) as error:  # a mode that Pillow does not convert, or broken EXIF
        raise GuidedError(f"an image of mode {image.mode} cannot be read: {error}; give it in RGB") from error


def _eight_bits(image: Image.Image, file: Image.Image) -> Image.Image:
    """The image in 8 bits: of 16 the upper eight. `file` is the original: a rotated copy loses the file's tags."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image
    array = np.asarray(image)
    if image.mode == "I" and file.format == "PNG":  # older releases of Pillow read 16 bits so
        array = array.astype(np.uint16)
    if array.dtype not in (np.uint16, np.dtype(">u2"), np.dtype("<u2")):
        raise GuidedError(
            f"an image of mode {image.mode} does not say how bright its numbers are ({array.min()} to {array.max()}); "
            "give it in 8 or 16 bits"
        )
    bits = getattr(file, "tag_v2", {}).get(_BITS, (16,))[0]  # scientific cameras have 12
    return Image.fromarray((array.astype(np.uint32) >> max(0, bits - 8)).clip(0, 255).astype(np.uint8))


def _transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _on_white(image: Image.Image) -> Image.Image:
    if not _transparent(image):
        return image.convert("RGB")
    shown = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")


def _opaque(mask: Image.Image) -> Image.Image:
    if _transparent(mask) and mask.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise GuidedError(
            "the mask is transparent in places, which some programs read as kept and others as free; "
            "draw it in white, which may change, and black, which is kept"
        )
    return mask.convert("RGB").convert("L") if _transparent(mask) else mask.convert("L")
