"""Where processes of other machines come in: connections that know the key."""

__all__ = ["Door"]

import secrets
import socket
import threading
from contextlib import suppress
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any, TypeAlias

Line: TypeAlias = "Connection[Any, Any]"


class Door:
    """Accepts connections in a thread, and asks each for the key in one of its own: who says nothing holds up nobody.

    Args:
        host: The address of this machine, as the others know it.

    Attributes:
        bell: Readable once for each connection that has come in.
    """

    def __init__(self, host: str) -> None:
        self.host, self.key = host, secrets.token_bytes(32)
        self.bell, self._ringer = Pipe(duplex=False)
        self._arrived: list[Line] = []
        self._socket, self._closed = _server(host), False
        self._port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="door").start()

    @property
    def address(self) -> dict[str, Any]:
        """What others need to connect, JSON-able."""
        return {"host": self.host, "port": self._port, "key": self.key.hex()}

    def arrived(self) -> list[Line]:
        """The connections that have come in since the last call."""
        found = []
        while self.bell.poll():
            self.bell.recv()
            found.append(self._arrived.pop(0))
        return found

    def close(self) -> None:
        """Accepts no more; who is being asked for the key is told that there is nothing to do."""
        self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                line: Line = Connection(self._socket.accept()[0].detach())
            except OSError:  # closed
                return
            threading.Thread(target=self._greet, args=(line,), daemon=True, name="greeting").start()

    def _greet(self, line: Line) -> None:
        """Lets those in who know the key."""
        try:
            deliver_challenge(line, self.key)
            answer_challenge(line, self.key)
        except (OSError, EOFError, AuthenticationError):
            with suppress(OSError):
                line.close()
            return
        if self._closed:
            with suppress(OSError), line:
                line.send(None)
            return
        self._arrived.append(line)
        self._ringer.send(None)


def _server(host: str) -> socket.socket:
    try:
        return socket.create_server((host, 0), backlog=128)
    except OSError:  # the others know this machine by another address than it does
        return socket.create_server(("", 0), backlog=128)
