"""Processes in sessions of their own, which end with this process and take what they started with them.

Such a process has a watcher: a shell that waits for the end of a pipe from us, and kills that session when we end
without a word (SIGKILL, a crash). The kernel's PDEATHSIG would kill the process when the thread that started it ends,
and not what it started.
"""

__all__ = ["close", "dismiss", "kill", "watch"]

import os
import signal
import subprocess
from contextlib import suppress
from typing import IO

_WATCHER = 'read -r word && exit 0; kill -s KILL -- "-$0" 2>/dev/null'


def watch(group: int) -> "subprocess.Popen[bytes] | None":
    """Kills a group of processes when this process ends without telling the watcher so."""
    nothing = subprocess.DEVNULL
    command = ["/bin/sh", "-c", _WATCHER, str(group)]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, start_new_session=True, bufsize=0, cwd="/"
        )
    except OSError:
        return None


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kills a process and those of its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def dismiss(watcher: "subprocess.Popen[bytes] | None") -> None:
    """Ends a watcher whose process has ended."""
    if watcher is not None and watcher.stdin is not None:
        with suppress(OSError):
            watcher.stdin.write(b"done\n")
        close(watcher.stdin)
        watcher.wait()


def close(stream: IO[bytes] | None) -> None:
    """Closes a stream, even if its reader has gone with something of ours unread."""
    with suppress(OSError):
        if stream is not None:
            stream.close()
