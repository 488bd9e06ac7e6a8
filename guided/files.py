"""Files that are whole or not there, whenever a kill comes."""

__all__ = ["write_whole"]

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that a kill leaves the old one or the new one; text as UTF-8.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
