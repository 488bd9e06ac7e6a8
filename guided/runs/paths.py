"""Paths and files that a user gives, checked before a run begins."""

__all__ = ["check_folder", "full", "nameable", "read_prompts"]

import errno
import os
import unicodedata
from pathlib import Path

from guided.errors import GuidedError, shown


def full(path: str | Path) -> Path:
    """The absolute path, with `~` expanded and no `..`; it stays valid when the working directory changes.

    Raises:
        GuidedError: It is no path.
    """
    if not isinstance(path, str | Path):
        raise GuidedError(f"the path is {shown(path)}; it must be a text or a Path")
    path = Path(path).expanduser().absolute()
    return path.resolve() if ".." in path.parts else path  # by the file system: a link's parent is not what is written


def nameable(path: str | Path) -> bool:
    """Whether a file can have this name: it is not too long, and has no null."""
    try:
        os.lstat(path)
    except ValueError:
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def check_folder(path: Path, name: str = "--out") -> None:
    """Checks that a folder can be made and written to, without making it.

    Raises:
        GuidedError: It cannot.
    """
    if path == Path():
        raise GuidedError(f"{name} is empty; name a folder")
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise GuidedError(f"{name} {str(path)!r}: {str(there)!r} is a file; it must be a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise GuidedError(f"{name} {str(path)!r}: the folder {str(there)!r} cannot be written")


def read_prompts(path: str | Path) -> list[str]:
    r"""The prompts in a file, one per line, in UTF-8 with or without a byte-order mark; lines end with `\n` or `\r\n`.

    Raises:
        GuidedError: The file cannot be read, is empty, or has an empty line or a control character.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GuidedError(f"the prompts {str(path)!r} are not UTF-8 text") from error
    except (OSError, ValueError) as error:  # no such file, or a name that no file can have
        raise GuidedError(f"cannot read the prompts {shown(str(path))}: {getattr(error, 'strerror', error)}") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    for number, line in enumerate(lines, 1):
        control = next((c for c in line if unicodedata.category(c) == "Cc"), None)
        if control is not None:
            what = f"the control character U+{ord(control):04X} in line {number}"
            raise GuidedError(f"the prompts {str(path)!r} have {what}; remove it")
        if not line.strip():
            raise GuidedError(f"the prompts {str(path)!r} have an empty line, line {number}; remove it")
    if not lines:
        raise GuidedError(f"the prompts {str(path)!r} are empty; write one on each line")
    return lines
