"""Turns: of several threads one runs at a time; it gives the turn up while it waits for scores.

So a network runs while other samples are scored, and neither models nor samplers have to know of threads.
"""

__all__ = ["elsewhere", "turn", "waiting"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Lock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_held: "ContextVar[Lock | None]" = ContextVar("turn", default=None)


@contextmanager
def turn(lock: "Lock") -> Iterator[None]:
    """Inside, this thread has the turn, except while it is `waiting`."""
    with lock:
        token = _held.set(lock)
        try:
            yield
        finally:
            _held.reset(token)


@contextmanager
def waiting() -> Iterator[None]:
    """Inside, another thread may have the turn, if this one has it at all."""
    lock = _held.get()
    if lock is None:
        yield
        return
    lock.release()
    try:
        yield
    finally:
        lock.acquire()


def elsewhere(call: Callable[P, T]) -> Callable[P, T]:
    """The same call with this thread's context, for another thread, which has no turn."""
    context = copy_context()
    context.run(_held.set, None)

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.run(call, *args, **kwargs)

    return run
