"""The image that a run starts from. It is read before any model is loaded."""

__all__ = ["Start", "read_image"]

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guided.core.editing import default_strength
from guided.errors import GuidedError, shown
from guided.runs.options import spelled
from guided.storage import digest_of

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Start:
    """The image that a run starts from.

    Args:
        image: The image; None for noise.
        mask: Where it may change; None for everywhere.
        strength: The share of the steps that are run; None for the default.
        config: The entries in the run's configuration: the files with their SHA-256, and the strength.
    """

    image: Any = None
    mask: Any = None
    strength: float | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, image: Any, mask: Any, strength: float | None) -> "Start":
        """Reads the image and the mask; each is a path, or an image in memory.

        Raises:
            GuidedError: One cannot be read, or is no image.
            ImportError: Pillow is not installed.
        """
        if image is None:
            return cls()
        start, config = _read("image", image)
        config |= {"strength": default_strength(mask is not None) if strength is None else strength}
        if mask is None:
            return cls(start, None, strength, config)
        region, entry = _read("mask", mask)
        return cls(start, region, strength, config | entry)


def read_image(path: str | Path, name: str = "image") -> "Image.Image":
    """The image in a file; error messages call it `name`.

    Raises:
        GuidedError: It cannot be read, or is no image.
    """
    return _decoded(name, Path(path), _bytes(name, Path(path).expanduser()))


def _read(name: str, given: Any) -> tuple[Any, dict[str, Any]]:
    """The image of a path, or the image as given, with its entry in the configuration."""
    if not isinstance(given, str | Path):
        return given, {name: {"object": type(given).__name__, "sha256": _digest(given)}}
    path = Path(given).expanduser()
    data = _bytes(spelled(name), path)
    image = _decoded(spelled(name), path, data)
    return image, {name: {"file": str(path), "sha256": digest_of(data)}}


def _bytes(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # no such file, or a name that no file can have
        raise GuidedError(f"cannot read {name} {shown(str(path))}: {getattr(error, 'strerror', error)}") from error


def _decoded(name: str, path: Path, data: bytes) -> "Image.Image":
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"{name} needs Pillow: pip install guided") from error
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise GuidedError(f"{name} {str(path)!r} is no image that can be read") from error
    return image


def _digest(image: Any) -> str | None:
    """The SHA-256 of the pixels of an image in memory; None if it has none."""
    import numpy as np

    try:
        pixels = np.ascontiguousarray(image)
    except (TypeError, ValueError, RuntimeError):
        return None
    head = f"{pixels.dtype} {pixels.shape} ".encode()
    return None if pixels.dtype == object else digest_of(head + pixels.tobytes())
