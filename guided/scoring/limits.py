"""The time limit of a call, and the threads of calls that went past it."""

__all__ = ["Hang", "Stopped", "TimeLimit", "hanging", "release"]

import atexit
import ctypes
import os
import sys
import threading
from contextvars import copy_context
from dataclasses import dataclass

from guided.errors import RewardError
from guided.scoring.protocol import Prompts, Samples, Scorer

MAX_HUNG = 16  # a thread cannot be killed: so many may hang at a time before the run stops
PATIENCE = 2.0  # seconds for a cancelled call to return
_hung: list[threading.Thread] = []
exit_code: int | None = None  # of this process, where it is known; the command line sets it


class Hang(Exception):
    """A call took longer than the time limit."""


class Stopped(BaseException):
    """Calls were stopped from another thread, because their scores are not wanted any more."""


class _Released(BaseException):
    """Raised in a thread that hangs when the process ends."""


@dataclass(frozen=True)
class TimeLimit:
    """Calls a scorer in a daemon thread, and waits so long.

    Args:
        inner: the scorer.
        limit: seconds for one call.
    """

    inner: Scorer
    limit: float

    def __call__(self, samples: Samples, prompts: Prompts = None) -> object:
        """What the scorer returns.

        Raises:
            Hang: it takes longer than the limit. A program is ended; the thread of a function goes on.
            RewardError: too many threads hang already.
        """
        _hung[:] = hanging()
        if len(_hung) >= MAX_HUNG:
            raise RewardError(f"hangs: {MAX_HUNG} calls still have not returned, and a thread cannot be ended")
        outcome: list[tuple[object, BaseException | None]] = []

        def work() -> None:
            try:
                outcome.append((self.inner(samples, prompts), None))
            except BaseException as error:
                outcome.append((None, error))

        context = copy_context()  # the run's device
        thread = threading.Thread(target=context.run, args=(work,), daemon=True, name="reward")
        thread.start()
        try:
            thread.join(min(self.limit, threading.TIMEOUT_MAX))
        except BaseException:  # Ctrl-C: what runs in the thread must not go on
            self._abandon(thread)
            raise
        if not outcome:
            self._abandon(thread)
            raise Hang(f"took longer than {self.limit:g} s")
        result, error = outcome[0]
        if error is not None:
            raise error
        return result

    def cancel(self) -> bool:
        """Ends a call that is under way in another thread; whether that can be done."""
        return self.inner.cancel()

    def close(self) -> None:
        """Ends what is kept running."""
        self.inner.close()

    def _abandon(self, thread: threading.Thread) -> None:
        _hung.append(thread)
        if self.inner.cancel():
            thread.join(PATIENCE)


def hanging() -> list[threading.Thread]:
    """The threads of calls that still have not returned."""
    return [thread for thread in _hung if thread.is_alive()]


def release(patience: float = PATIENCE) -> bool:
    """Ends the threads that hang, so that the interpreter can end; whether all have ended.

    A daemon thread that comes back from C code while the interpreter ends aborts the process (pytorch#38228). What is
    raised in a thread arrives when it next runs Python code.
    """
    threads = hanging()
    for thread in threads:
        if thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Released))
    for thread in threads:
        thread.join(patience / len(threads))
    return not hanging()


def _at_exit() -> None:
    if hanging() and not release() and exit_code is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)  # not even that ended them: the interpreter must not end under them


atexit.register(_at_exit)
