"""Arguments of a pipeline's call beside its prompts: `name=value` on a command line, images by their files."""

__all__ = ["described", "opened", "read_pairs"]

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guided.errors import GuidedError, kind_of
from guided.names import read_value, split_pair
from guided.runs.options import spelled

#: The words in the name of an argument that is an image, or a list of images: a text there is a file.
FILES = ("image", "mask", "video", "frames")
WORDS = {"True": True, "False": False, "None": None}
VIDEOS = ("video", "frames")  # those of arguments that are lists of images: an animated file is its frames


def read_pairs(given: Any) -> dict[str, Any] | None:
    """The arguments by name, from a mapping or from texts `name=value`, of which values are JSON or else text.

    Python's words for true, false and null, and numbers without a 0 before the point, are understood too.

    Raises:
        GuidedError: A text has another form, or names an argument twice.
    """
    if given is None or isinstance(given, Mapping):
        return None if given is None else {str(name): value for name, value in given.items()}
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise GuidedError(f"{spelled('pipe_args')} is {kind_of(given)}; it must be a mapping from names to arguments")
    found: dict[str, Any] = {}
    for text in given:
        pair = split_pair(text) if isinstance(text, str) else None
        if pair is None or pair[0] in found:
            raise GuidedError(f"{spelled('pipe_args')} is {text!r}; it must be name=value, each name once")
        found[pair[0]] = _read(pair[1])
    return found


def _read(text: str) -> Any:
    if text in WORDS:
        return WORDS[text]
    return float(text) if re.fullmatch(r"[-+]?\.\d+", text) else read_value(text)


def opened(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments with the images of files in place of their paths; of a GIF or WebP for a video, its frames.

    Raises:
        GuidedError: A file cannot be read, or is no image.
    """
    return {name: _opened(name, value) for name, value in (given or {}).items()}


def described(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments in types that JSON has, files with their SHA-256."""
    return {name: _described(name, value) for name, value in (given or {}).items()}


def _is_file(name: str, value: Any) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and any(word in name for word in FILES))


def _opened(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_opened(name, entry) for entry in value]
    if not _is_file(name, value):
        return value
    from guided.runs.editing import read_image  # here, as options are read before torch is

    image = read_image(value, name)
    return _frames(image) if any(word in name for word in VIDEOS) else image


def _frames(image: Any) -> Any:
    """The frames of an animation, one after the other; an image as it is."""
    from PIL import ImageSequence

    frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    return frames if len(frames) > 1 else image


def _described(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_described(name, entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): _described("", entry) for key, entry in value.items()}
    if _is_file(name, value):
        from guided.storage import digest_of

        path = Path(value).expanduser()
        return {"file": str(path), "sha256": digest_of(path.read_bytes())}
    if value is None or isinstance(value, str | int | float):
        return value
    return {"object": type(value).__name__}  # the model's identity has its digest
