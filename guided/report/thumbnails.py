"""Pictures of a run folder, made small and put into the page."""

__all__ = ["digest", "is_picture", "thumbnail"]

import base64
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

QUALITIES = ((85, 0), (60, 2), (30, 2))  # of a JPEG, with its subsampling of colours: the first that is small enough
ENOUGH = 24_000  # bytes
VIDEO = 70  # the quality of a WebP
FRAMES = 16  # of a video, at most
_PATH = re.compile(r"(samples|unguided|path)/\d{3,}\.(png|webp)")  # nothing else is opened, whatever a file says


def is_picture(rows: Iterable[Mapping[str, str]]) -> bool:
    """Whether all samples are pictures in files of the folder, and there are any."""
    paths = [row["sample"] for row in rows]
    return bool(paths) and all(map(_PATH.fullmatch, paths))


def digest(folder: Path, sample: str) -> str:
    """What tells a picture from others: its bytes. A sample that is none, or is missing, is told by its text."""
    try:
        return hashlib.sha256((folder / sample).read_bytes()).hexdigest() if _PATH.fullmatch(sample) else sample
    except OSError:
        return sample


def thumbnail(folder: Path, sample: str, side: int, text: str = "") -> str:
    """An `<img>` that needs no other file.

    Arguments:
        folder: The run folder.
        sample: The picture's path there.
        side: The length of its longer side, in pixels, at most.
        text: What it shows.
    """
    from PIL import Image

    try:
        if not _PATH.fullmatch(sample):
            raise OSError(f"{sample!r} is no picture of a run")
        with Image.open(folder / sample) as image:
            kind, data = _small(image, side)
    except (OSError, SyntaxError):  # removed, or torn
        return f'<span class="missing">{escape(sample)} cannot be read</span>'
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="{escape(text)}">'


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


def _saved(image: "Image.Image", kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
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
