"""The image that a run starts from, read before anything heavy is loaded."""

__all__ = ["Start"]

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guided.core.editing import default_strength
from guided.errors import GuidedError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Arguments:
        image: The image; None for noise.
        mask: Where it may change; None for everywhere.
        strength: The share of the steps that are taken; None for all.
        config: The entries of the run's configuration: the files with their SHA-256, and the strength.
    """

    image: "Image.Image | None" = None
    mask: "Image.Image | None" = None
    strength: float | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, image: Path | None, mask: Path | None, strength: float | None) -> "Start":
        """Reads the files.

        Raises:
            GuidedError: One cannot be read, or is no image.
            ImportError: Pillow is not installed.
        """
        if image is None:
            return cls()
        picture, config = _read("image", image)
        config |= {"strength": default_strength(mask is not None) if strength is None else strength}
        if mask is None:
            return cls(picture, None, strength, config)
        region, entry = _read("mask", mask)
        return cls(picture, region, strength, config | entry)


def _read(name: str, path: Path) -> tuple["Image.Image", dict[str, Any]]:
    """The image in a file, and its entry in the configuration."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"--{name} needs Pillow: pip install guided") from error
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GuidedError(f"cannot read --{name} {str(path)!r}: {error.strerror}") from error
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise GuidedError(f"--{name} {str(path)!r} is no image that can be read") from error
    return image, {name: {"file": str(path), "sha256": hashlib.sha256(data).hexdigest()}}
