"""A worker process, seen from here. It is started when first needed, killed when a call takes too long, and replaced.

Processes are started by loky: a fresh interpreter that does not run the program's `__main__`, so that scripts need no
guard. Its executor is not used: that breaks as a whole when a worker dies, and does not say which worker has a call.
"""

__all__ = ["Died", "Task", "WorkerProcess"]

import itertools
import os
import pickle
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from guided.errors import SAMPLES_FAULT, GuidedError, RewardError
from guided.scoring import serving
from guided.scoring.failures import printable
from guided.scoring.limits import Hang, Stopped
from guided.scoring.program import GRACE
from guided.scoring.protocol import Prompts, Samples
from guided.sessions import dismiss, watch

LOOK = 1.0  # seconds between looks at a process that is silent: its children may hold its pipes open
TRIES = 2
FAULTS: tuple[type[Exception], ...] = (RuntimeError, *SAMPLES_FAULT)
_keys = itertools.count()


class Died(Hang):
    """The process of a call ended, as often as it was tried."""


class Task:
    """A function to call in worker processes, as a pickle. Functions of scripts and notebooks are sent whole.

    Args:
        name: the reward's name, for messages.
        function: `function(samples, **parameters)`.
        parameters: its keyword arguments.
        prompted: whether it is given the samples' prompts, as `prompts=`.
        changed: whether a file on which scores depend is no longer what it was: a process that starts now would give
            the scores of another reward.

    Raises:
        GuidedError: it cannot be pickled.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        parameters: Mapping[str, Any],
        prompted: bool,
        changed: Callable[[], bool] = lambda: False,
    ) -> None:
        import cloudpickle

        _context()  # imported here: several threads that import it at once get in one another's way
        self.key, self.changed = next(_keys), changed
        try:
            self.pickle: bytes = cloudpickle.dumps((function, dict(parameters), prompted))
        except Exception as error:
            said = f"{type(error).__name__}: {printable(str(error))}"
            raise GuidedError(
                f"reward {name!r} cannot be sent to worker processes: {said}; put what it holds into a file as "
                "path.py:function, or take no workers"
            ) from error


class WorkerProcess:
    """A worker process.

    Args:
        threads: how many threads numerical libraries may use in it.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._process: Any = None
        self._connection: Any = None
        self._watcher: Any = None
        self._loaded: set[int] = set()

    def call(
        self, task: Task, samples: Samples, prompts: Prompts, limit: float | None, stopped: Callable[[], bool]
    ) -> object:
        """What the function returns.

        Args:
            task: the function.
            samples: n samples.
            prompts: a prompt for each, if there are any.
            limit: seconds that the call may take, without the start of the process; None for no limit.
            stopped: whether the scores are not wanted any more.

        Raises:
            Hang: it took longer than the limit; the process was killed.
            Died: the process ended, twice.
            RewardError: the samples cannot be sent, or the function cannot be loaded there.
        """
        request = _pickled(("score", task.key, samples, prompts))
        for left in reversed(range(TRIES)):
            loaded = False
            try:
                self._load(task)
                loaded = True
                return self._ask(request, limit)
            except (EOFError, OSError) as error:
                code = self.end(0.0)
                if stopped():
                    raise Stopped from None
                if not left and not loaded:  # no sample's fault
                    raise RewardError(f"cannot be loaded: its worker process ended{_how(code)}") from error
                if not left:
                    raise Died(f"ended its worker process{_how(code)}, {TRIES} times") from error
        raise AssertionError("unreachable")

    def kill(self) -> None:
        """Kills the process and what it started; a call in another thread ends."""
        process = self._process
        if process is not None and process.pid is not None:
            _kill(process)

    def end(self, grace: float = GRACE) -> int | None:
        """Ends the process: its pipe is closed, and after `grace` seconds it is killed. Returns its exit code."""
        process, self._process, self._loaded = self._process, None, set()
        if process is None:
            return None
        with suppress(OSError):
            self._connection.close()
        until = time.monotonic() + grace
        while process.exitcode is None and time.monotonic() < until:
            time.sleep(0.005)
        _kill(process)  # also what it started and left behind
        process.join()
        dismiss(self._watcher)
        code: int | None = process.exitcode
        return code

    def _start(self) -> None:
        context = _context()
        self._connection, there = context.Pipe()
        self._process = context.Process(target=serving.serve, args=(there,), name="reward", env=_threads(self.threads))
        self._process.start()
        there.close()
        self._watcher = watch(self._process.pid)

    def _load(self, task: Task) -> None:
        """Starts the process and gives it the function, unless it is there and has it."""
        if self._process is None:
            self._start()
        if task.key in self._loaded:
            return
        try:
            self._ask(_pickled(("load", task.key, task.pickle)), None)
        except (GuidedError, ImportError):
            raise
        except FAULTS as error:
            said = printable(str(error))
            raise RewardError(f"cannot be loaded in a worker process: {type(error).__name__}: {said}") from error
        if task.changed():
            self.end(0.0)
            raise RewardError("has a file that was changed while the run went on; scores of both cannot be mixed")
        self._loaded.add(task.key)

    def _ask(self, request: bytes, limit: float | None) -> object:
        self._connection.send_bytes(request)
        until = None if limit is None else time.monotonic() + limit
        while not self._connection.poll(LOOK if until is None else max(0.0, min(LOOK, until - time.monotonic()))):
            if self._process.exitcode is not None:
                raise EOFError
            if until is not None and time.monotonic() >= until:
                self.end(0.0)
                raise Hang(f"took longer than {limit:g} s")
        kind, *said = pickle.loads(self._connection.recv_bytes())
        if kind == "raised":
            raise _raised(*said)
        return said[0]


def _pickled(request: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        said = f"{type(error).__name__}: {printable(str(error))}"
        raise RewardError(f"is scored by worker processes, and its samples cannot be sent: {said}") from error


def _raised(kind: str, name: str, text: str, trace: str) -> Exception:
    """An error like that of the worker, with its traceback as the cause."""
    base = serving.KINDS[kind]
    error: Exception = (base if base.__name__ == name else type(name, (base,), {}))(text)
    error.__cause__ = RuntimeError(f"in a worker process:\n{trace}")
    return error


def _how(code: int | None) -> str:
    if code is None:
        return ""
    if code < 0:
        with suppress(ValueError):
            return f" by {signal.Signals(-code).name}"
    return f" with exit code {code}"


def _threads(n: int) -> dict[str, str]:
    """The environment that limits the threads of numerical libraries, where nothing else is said."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: str(n) for name in names if name not in os.environ}


def _kill(process: Any) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):  # it has no session yet, or has ended
        if process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _context() -> Any:
    from joblib.externals.loky.backend.context import get_context

    return get_context("loky")
