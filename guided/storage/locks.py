"""Locks on folders, so that two processes cannot write to the same one."""

__all__ = ["lock"]

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guided.errors import GuidedError
from guided.storage.files import make_folder, writing

# Errors of a file system that has no locks.
UNLOCKABLE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
_noted: set[str] = set()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Locks a folder, which is made if it does not exist, so that two processes cannot mix their files.

    The lock ends with the process, however it ends. If the file system has no locks, a note on standard error says so
    once.

    Raises:
        GuidedError: Another process has locked the folder, or it cannot be written.
    """
    make_folder(folder)
    with writing(folder):
        handle = _hold(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _hold(folder: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # not POSIX
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in UNLOCKABLE:
            _note(f"the file system of {str(folder)!r} has no locks: two processes can write to it at once")
            return None
        if isinstance(error, BlockingIOError):
            raise GuidedError(f"another process is writing to {str(folder)!r}") from error
        raise
    return handle


def _note(text: str) -> None:
    if text not in _noted:
        _noted.add(text)
        print(f"note: {text}", file=sys.stderr)
