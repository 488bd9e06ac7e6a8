"""Files that are whole or not there, whenever a kill comes."""

__all__ = ["whole", "write_whole"]

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Hands out the path to write to; what was written there is synced, and takes the place of `path` at the end.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    part = path.with_name(path.name + ".part")
    yield part
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that a kill leaves the old one or the new one; text as UTF-8.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    with whole(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
