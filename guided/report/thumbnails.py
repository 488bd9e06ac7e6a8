"""Files of a run folder: images, made small and put into the page; nothing is opened that a run does not write."""

__all__ = ["digest", "file_of", "is_image", "is_sound", "thumbnail"]

import base64
import io
import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guided import storage
from guided.report.rows import sample_of

if TYPE_CHECKING:
    from PIL import Image

QUALITIES = ((85, 0), (60, 2), (30, 2))  # of a JPEG, with its subsampling of colours: the first that is small enough
ENOUGH = 24_000  # bytes
VIDEO = 70  # the quality of a WebP
FRAMES = 16  # of a video, at most
TORN = (OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error)  # what Pillow raises for such files
_PATH = re.compile(r"(samples|unguided|path)/[0-9]{3,}\.(png|webp|wav)")  # nothing else is opened, whatever a file says


def is_image(rows: Iterable[Mapping[str, str]]) -> bool:
    """Whether all samples are images or videos in files of the folder, and there are any."""
    return _all(rows, (".png", ".webp"))


def is_sound(rows: Iterable[Mapping[str, str]]) -> bool:
    """Whether all samples are sounds in files of the folder, and there are any."""
    return _all(rows, (".wav",))


def _all(rows: Iterable[Mapping[str, str]], endings: tuple[str, ...]) -> bool:
    paths = [sample_of(row) for row in rows]
    return bool(paths) and all(_PATH.fullmatch(path) and path.endswith(endings) for path in paths)


def digest(folder: Path, sample: str) -> str:
    """What two equal samples have in common: the bytes of an image or a sound, the text of any other sample."""
    try:
        return storage.digest(file_of(folder, sample))
    except OSError:
        return sample


def file_of(folder: Path, sample: str) -> Path:
    """The file of an image or a sound.

    Raises:
        OSError: The sample is none, or its file is not there.
    """
    path = folder / sample if _PATH.fullmatch(sample) else None
    if path is None or not path.is_file():
        raise OSError(f"{sample!r} is no file of a run")
    return path


def thumbnail(folder: Path, sample: str, side: int, text: str = "") -> str:
    """An `<img>` that needs no other file.

    Args:
        folder: The run folder.
        sample: The image's path there.
        side: The length of its longer side, in pixels, at most.
        text: What it shows.
    """
    from PIL import Image

    try:
        with Image.open(file_of(folder, sample)) as image:
            form, data = _small(image, side)
    except (*TORN, Image.DecompressionBombError):
        return f'<span class="missing">{escape(sample)} cannot be read</span>'
    return f'<img src="data:image/{form};base64,{base64.b64encode(data).decode()}" alt="{escape(text)}">'


def _small(image: "Image.Image", side: int) -> tuple[str, bytes]:
    """The type and the bytes of a small copy: of two forms of an image the shorter, of a video a WebP."""
    if getattr(image, "n_frames", 1) > 1:
        return "webp", _small_video(image, side)
    image.load()
    small = _resized(image.convert("RGB"), side)
    lossless = _saved(small, "png", optimize=True)
    for quality, subsampling in QUALITIES:
        lossy = _saved(small, "jpeg", quality=quality, subsampling=subsampling)
        if min(len(lossless), len(lossy)) <= ENOUGH:
            break
    return ("png", lossless) if len(lossless) <= len(lossy) else ("jpeg", lossy)


def _saved(image: "Image.Image", form: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def _small_video(video: "Image.Image", side: int) -> bytes:
    count = getattr(video, "n_frames", 1)
    shown = min(count, FRAMES)
    frames: list[Image.Image] = []
    durations: list[float] = []
    for k in range(count):
        video.seek(k)
        video.load()
        spent = video.info.get("duration", 0)
        if len(frames) < shown and k >= len(frames) * count // shown:
            frames.append(_resized(video.convert("RGB"), side))
            durations.append(spent)
        else:
            durations[-1] += spent
    options = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0, "quality": VIDEO}
    return _saved(frames[0], "webp", **options)


def _resized(image: "Image.Image", side: int) -> "Image.Image":
    image.thumbnail((side, side))
    return image
