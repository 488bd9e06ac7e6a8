"""Files that are written whole: a kill leaves the old file or the new one. Errors of the disk are GuidedErrors."""

__all__ = ["digest", "digest_of", "make_folder", "refuse_foreign", "refuse_links", "whole", "write_whole", "writing"]

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from guided.errors import GuidedError

#: Files of which one is in every folder that we have written.
MARKS = ("run.json", "config.json", "rollouts.json")
#: What may be there before: an interrupted start, requests that were drawn alone, data that were handed over, and what
#: users put beside a run: notes, options, scripts and logs of jobs.
_OURS = re.compile(
    r"\..*|.*\.part|samples|unguided|path|rollouts|training|sheets|only-\d+\..*|(samples|unguided|path)\.csv|"
    r"\d{5}\.npz|progress\.json|report\.html|samples\.fasta|blocks|.*\.(txt|md|toml|sh|sbatch|log|out|err)|"
    r"lost\+found|Thumbs\.db|desktop\.ini"
)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an OSError inside into a GuidedError with the folder and the message of the system.

    Raises:
        GuidedError: The disk is full, or the folder cannot be written or is not a folder.
    """
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        raise GuidedError(f"cannot write to the folder {str(folder)!r}: {said}") from error


def make_folder(path: Path) -> None:
    """Makes a folder and its parents, if they do not exist.

    Raises:
        GuidedError: It cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to; at the end the file is synced and replaces `path`.

    The file has the permissions of new files of the process, whatever the writer chose.

    Raises:
        GuidedError: The folder cannot be written, or the disk is full.
    """
    part = path.with_name(path.name + ".part")
    with writing(path.parent):
        part.unlink(missing_ok=True)  # a link there would be written through
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that a kill leaves the old one or the new one; text as UTF-8.

    What UTF-8 has no bytes for, as in a file's name that is no UTF-8, is written as an escape, which JSON reads back.

    Raises:
        GuidedError: The folder cannot be written, or the disk is full.
    """
    with whole(path) as part:
        part.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


def refuse_foreign(folder: Path, name: str = "the folder") -> None:
    """Refuses a folder that holds files of something else, such as a home folder, because ours would be lost in it.

    Hidden files are let be, and anything beside a run, a value or a checkpoint, such as notes.

    Args:
        folder: The folder; it need not exist.
        name: What it is called in messages.

    Raises:
        GuidedError: It holds such files.
    """
    if not folder.is_dir() or any(os.path.lexists(folder / mark) for mark in MARKS):
        return
    with writing(folder):
        foreign = sorted(entry for entry in os.listdir(folder) if not _OURS.fullmatch(entry))
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise GuidedError(
            f"{name} {str(folder)!r} holds {foreign[0]!r}{more}, and none of {', '.join(MARKS)}; "
            "give a new folder, an empty one, or one that a run has written"
        )


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Refuses entries of a folder that are links out of it, because writing to them would change other files.

    Args:
        folder: The folder.
        names: The entries that will be written; missing ones are accepted.

    Raises:
        GuidedError: One is such a link.
    """
    for name in names:
        path = folder / name
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise GuidedError(
                f"{str(path)!r} is a link out of its folder, to {str(path.resolve())!r}: nothing is written or removed "
                "there; use another folder, or remove the link"
            )


def digest(path: Path) -> str:
    """The SHA-256 digest of a file."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()


def digest_of(content: str | bytes) -> str:
    """The SHA-256 digest of bytes, or of text as UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
