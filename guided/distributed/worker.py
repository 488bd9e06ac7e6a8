"""A process that draws blocks for another one, over a connection: it loads the run, then draws until there is no more.

The other end sends the setup, then tasks, then None. When it is gone without a word, this process ends at once, even in
the middle of a block.
"""

__all__ = ["main", "serve"]

import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any, NoReturn, TypeAlias

import cloudpickle

ABANDONED = 1  # the exit code of a process whose other end is gone
LAST_WORD = 1.0  # seconds in which a last message may still be read after the other end has closed
Inbox: TypeAlias = "queue.SimpleQueue[Any]"
Line: TypeAlias = "Connection[Any, Any]"


def main(handle: int, device: str, threads: int) -> None:
    """Serves the connection of a file descriptor; what rewards print goes to standard error."""
    os.dup2(2, 1)
    serve(Connection(handle), device, threads)


def serve(connection: Line, device: str, threads: int) -> None:
    """Draws the blocks that the other end of a connection asks for, until it has no more.

    Args:
        connection: The connection.
        device: The device of this process.
        threads: The number of threads of a CPU; 0 for torch's own choice.
    """
    inbox: Inbox = queue.SimpleQueue()
    over = threading.Event()
    threading.Thread(target=_receive, args=(connection, inbox, over), daemon=True, name="receiver").start()

    def send(message: object) -> None:
        try:
            connection.send_bytes(cloudpickle.dumps(message))
        except OSError:
            if not over.wait(LAST_WORD):  # the other end is gone without a word
                _leave()

    from guided.distributed.messages import Ready
    from guided.distributed.setup import Loaded, failure  # takes seconds, in which the other end may go

    if (setup := inbox.get()) is None:
        return
    try:
        loaded = Loaded(setup, device, threads)
    except Exception as error:
        send(failure(error))
        inbox.get()
        return
    send(Ready())
    while (task := inbox.get()) is not None:
        send(loaded.draw(task, send))
    loaded.close()


def _receive(connection: Line, inbox: Inbox, over: threading.Event) -> None:
    """Reads messages until the last one, and ends the process when the other end is gone before it."""
    message: Any = ...
    while message is not None:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            _leave()
        inbox.put(message)
    over.set()


def _leave() -> NoReturn:
    """Ends the process at once, and the external programs that it runs."""
    programs = sys.modules.get("guided.scoring.program")
    if programs is not None:
        programs.kill_all()
    os._exit(ABANDONED)
