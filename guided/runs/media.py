"""Samples that are files of a run folder: an image as PNG, a video as animated WebP, a sound as WAV.

PNG and WebP are lossless; WAV has PCM of 16 bits. Equal consecutive frames are stored as one frame of the WebP with
their total duration.
"""

__all__ = ["FILE_MODALITIES", "IMAGE_MODALITIES", "drop", "file_name", "found", "stored"]

import io
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guided.core.sound import Sound, to_wav
from guided.storage import write_whole

if TYPE_CHECKING:
    from guided.runs.engine import Batch

#: The modalities whose samples are images or lists of images.
IMAGE_MODALITIES = ("images", "videos")
#: The modalities whose samples are files.
FILE_MODALITIES = (*IMAGE_MODALITIES, "audio")
FRAME = 125  # the duration of a frame of a video, in ms
_NAME = re.compile(r"(\d{5,})\.(png|webp|wav)(\.part)?")


def file_name(stem: str, sample: Any) -> str | None:
    """The name of a sample's file, by a stem as "00017"; None for a sample that is no image, video or sound."""
    if isinstance(sample, Sound):
        return f"{stem}.wav"
    library = sys.modules.get("PIL.Image")  # without this import there are no images
    if library is None:
        return None
    if isinstance(sample, library.Image):
        return f"{stem}.png"
    frames = isinstance(sample, list | tuple) and len(sample) > 0 and all(isinstance(f, library.Image) for f in sample)
    return f"{stem}.webp" if frames else None


def stored(batch: "Batch", folder: Path, stem: str = "samples/{:05d}") -> "Batch":
    """Writes the files of a batch, and returns the batch with their paths, relative to the folder, as its samples.

    Args:
        batch: A finished batch; a batch of another modality is returned unchanged.
        folder: The run folder.
        stem: The path of a request's file without its ending.

    Raises:
        OSError: The folder cannot be written.
    """
    names = [file_name(stem.format(i), sample) for i, sample in zip(batch.requests, batch.samples, strict=True)]
    if None in names:
        return batch
    for name, sample in zip(names, batch.samples, strict=True):
        path = folder / str(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, encoded(sample))
    return replace(batch, samples=names)


def encoded(sample: Any) -> bytes:
    """A PIL image as PNG, a list of frames as WebP, a sound as WAV."""
    if isinstance(sample, Sound):
        return to_wav(sample)
    data = io.BytesIO()
    if isinstance(sample, Sequence):
        first, *rest = [frame.convert("RGB") for frame in sample]
        first.save(data, "WEBP", save_all=True, append_images=rest, duration=FRAME, loop=0, lossless=True)
    else:
        sample.save(data, "PNG")
    return data.getvalue()


def found(folder: Path) -> dict[Path, int]:
    """The images and sounds in a folder, also partly written ones, with their requests; none if there is no folder."""
    names = {path: _NAME.fullmatch(path.name) for path in sorted(folder.glob("*"))}
    return {path: int(name[1]) for path, name in names.items() if name}


def drop(folder: Path, done: int, kept: Callable[[int], bool] = lambda request: False) -> None:
    """Removes partly written files and those of the requests from `done` on, which belong to an unfinished batch.

    Args:
        folder: The folder of the files.
        done: The number of finished requests.
        kept: Whether a later request's file stays, because its batch is finished too.

    Raises:
        OSError: The folder cannot be written.
    """
    for path, request in found(folder).items():
        if path.suffix == ".part" or (request >= done and not kept(request)):
            path.unlink()
