"""What a worker process does: it is given functions once, and then samples to score, over a pipe.

Requests and answers are pickles:

    ("load", key, task)                  ("done", None)
    ("score", key, samples, prompts)     ("done", what the function returned)
                                         ("raised", kind, name of the type, text, traceback)

A task is a pickle of its own, so that one that cannot be read is an error of this reward alone. The end of the pipe
ends the process. It has a session of its own: Ctrl-C does not reach it, and what it starts is killed with it.
"""

__all__ = ["KINDS", "Unsendable", "answer", "serve"]

import copy
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from guided.errors import SAMPLES_FAULT, GuidedError, RewardError

#: Types of errors that are told apart, from the most special.
KINDS: dict[str, type[Exception]] = {
    "reward": RewardError,
    "import": ImportError,
    "memory": MemoryError,
    "input": GuidedError,
    **{kind.__name__: kind for kind in SAMPLES_FAULT},
    "other": RuntimeError,
}
Task = tuple[Callable[..., Any], dict[str, Any], bool]  # a function, its parameters, whether it takes prompts


class Unsendable:
    """What a function returned that cannot be pickled: its text only."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def serve(connection: Any) -> None:
    """Answers requests until the pipe ends.

    Args:
        connection: the worker's end of a pipe.
    """
    with suppress(AttributeError, OSError):  # not POSIX, or it leads a session already
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks: dict[int, Task] = {}
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            return
        reply = answer(tasks, request)
        del request  # large samples are not kept until the next ones
        try:
            connection.send_bytes(reply)
        except OSError:
            return


def answer(tasks: dict[int, Task], request: bytes) -> bytes:
    """The answer to a request; `tasks` holds the functions by key."""
    try:
        what, key, *given = pickle.loads(request)
        if what == "load":
            tasks[key] = pickle.loads(given[0])
            return pickle.dumps(("done", None))
        return _packed(_called(tasks[key], *given))
    except BaseException as error:
        kind = next((kind for kind, base in KINDS.items() if isinstance(error, base)), "other")
        return pickle.dumps(("raised", kind, type(error).__name__, _text(error), _trace()))


def _called(task: Task, samples: Any, prompts: Any) -> Any:
    function, parameters, prompted = task
    extra = {"prompts": prompts} if prompted else {}
    torch = sys.modules.get("torch")
    with nullcontext() if torch is None else torch.no_grad():
        result = function(samples, **copy.deepcopy(parameters), **extra)
    return result.detach() if hasattr(result, "detach") else result


def _packed(result: Any) -> bytes:
    try:
        return pickle.dumps(("done", result), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # a generator, an object of a class inside a function
        return pickle.dumps(("done", Unsendable(repr(result))))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "an error that cannot be shown"


def _trace() -> str:
    try:
        return traceback.format_exc()
    except Exception:
        return ""
