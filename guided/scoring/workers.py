"""Workers: a batch is scored in parts, side by side.

    Spread(Failures(the reward of a worker))

A worker is a thread. A function of Python, which holds Python's lock, is scored in a process that the thread keeps; one
that releases the lock in the thread itself; and a program is started once for each worker. The rewards of an objective
share a pool, so that there are as many processes as workers, whatever the number of rewards. Parts become smaller
towards the end of a batch, so that all workers end at about the same time; the scores are in order.
"""

__all__ = ["MOST_WORKERS", "Pool", "Spread", "shares"]

import atexit
import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeAlias, TypeVar

from guided.scoring.external import External
from guided.scoring.failures import Failed, Failures, Shown
from guided.scoring.function import Function
from guided.scoring.limits import Stopped, TimeLimit
from guided.scoring.process import Task, WorkerProcess
from guided.scoring.program import GRACE
from guided.scoring.protocol import Prompts, Samples, Scorer
from guided.scoring.turns import elsewhere, waiting

T = TypeVar("T")
MOST_WORKERS = 1024
PARTS = 2  # how many parts there would be for each worker if they did not become smaller
_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


class Worker:
    """A thread that scores parts, and what it keeps running: a process, and programs.

    Args:
        todo: parts and where their results go; None ends a worker.
        threads: how many threads numerical libraries may use in its process.
    """

    def __init__(self, todo: "SimpleQueue[Job]", threads: int) -> None:
        self.process = WorkerProcess(threads)
        self.programs: dict[int, External] = {}
        self.busy = self.stopped = False
        self.thread = Thread(target=self._run, args=(todo,), daemon=True, name="worker")
        self.thread.start()

    def program(self, original: External) -> External:
        """This worker's own run of a program."""
        return self.programs.setdefault(id(original), original.another())

    def stop(self) -> None:
        """Ends the call that is under way, if that can be done: its scores are not wanted."""
        self.stopped = True
        if self.busy:
            self.process.kill()
            for program in list(self.programs.values()):
                program.cancel()

    def _run(self, todo: "SimpleQueue[Job]") -> None:
        while (job := todo.get()) is not None:
            self.busy, self.stopped = True, False
            future, part = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(part(self))
                except BaseException as error:
                    future.set_exception(error)
            self.busy = False
            del job, future, part  # samples are not kept until the next part
        for program in self.programs.values():
            program.close()
        self.process.end()


Part: TypeAlias = Callable[[Worker], Any]
Job: TypeAlias = "tuple[Future[Any], Part] | None"


class Pool:
    """Workers side by side. They start when first needed, and end with the pool or the interpreter.

    Args:
        n: how many.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._lock = Lock()
        self._new()
        _pools.add(self)

    def _new(self) -> None:
        self._workers: list[Worker] = []
        self._todo: SimpleQueue[Job] = SimpleQueue()
        self._stopped: Future[None] = Future()
        self._dropped = weakref.finalize(self, _dismiss, self._workers, self._todo)
        self._dropped.atexit = False

    def run(self, parts: Sequence[Callable[[Worker], T]]) -> list[T]:
        """The results of parts, in order; the caller gives its turn up while it waits.

        Raises:
            Stopped: `stop` was called in another thread.
        """
        with self._lock:
            stopped = self._stopped
            futures = [self._submit(part) for part in parts]
        try:
            with waiting():
                return [_result(future, stopped) for future in futures]
        except BaseException as error:
            for future in futures:
                future.cancel()
            if not isinstance(error, Exception | Stopped):  # Ctrl-C
                self.stop()
            raise

    def stop(self) -> None:
        """Ends all calls that are under way or wait; the pool can be used again."""
        with self._lock:
            self._stopped.set_result(None)
            self._stopped = Future()
            for future, _ in _drained(self._todo):
                future.cancel()
            for worker in self._workers:
                worker.stop()

    def close(self) -> None:
        """Ends the workers; the next call starts others."""
        self.stop()
        with self._lock:
            workers = list(self._workers)
            self._dropped()
            self._new()
        until = time.monotonic() + 2 * GRACE
        while any(worker.thread.is_alive() for worker in workers) and time.monotonic() < until:
            for worker in workers:
                worker.stop()  # one may have begun a part meanwhile
                worker.thread.join(0.02)

    def _submit(self, part: Part) -> "Future[Any]":
        if not self._workers:
            threads = max(1, (os.cpu_count() or 1) // self.n)
            self._workers += [Worker(self._todo, threads) for _ in range(self.n)]
        future: Future[Any] = Future()
        self._todo.put((future, elsewhere(part)))
        return future


_learning = Lock()


class Spread(Failures):
    """Scores a batch on the workers of a pool, each with the failure policy for its part.

    Args:
        name: the reward's name, for messages.
        scorer: the reward.
        on_error: the failure policy.
        pool: the workers.
        limit: seconds that one call may take; None for no limit.
        processes: whether functions are called in processes.
        changed: whether a file on which scores depend is no longer what it was.

    Raises:
        GuidedError: a function cannot be sent to processes.
    """

    def __init__(
        self,
        name: str,
        scorer: Scorer,
        on_error: str,
        pool: Pool,
        limit: float | None = None,
        processes: bool = True,
        changed: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(name, scorer, on_error)
        self.pool, self.limit = pool, limit
        self.task: Task | None = None
        if processes and isinstance(scorer, Function):
            self.task = Task(name, scorer.function, scorer.parameters, scorer.prompted, changed)

    def __call__(self, samples: Samples, prompts: Prompts = None, shown: Shown = None) -> list[float]:
        """Scores of n samples, in order: n numbers, finite or -inf.

        Raises:
            RewardError: as of one worker; of several failures, that of the first sample.
        """
        parts = [
            partial(self._part, samples[share], None if prompts is None else prompts[share])
            for share in shares(len(samples), self.pool.n)
        ]
        scores = [score for part in self.pool.run(parts) for score in part]
        for score in scores:
            if isinstance(score, Failed):
                self.count(score)
        return scores

    def cancel(self) -> bool:
        """Ends calls that are under way in other threads."""
        self.pool.stop()
        return True

    def close(self) -> None:
        """Ends the workers."""
        self.pool.close()

    def _part(self, samples: Samples, prompts: Prompts, worker: Worker) -> list[float]:
        failures = Failures(self.name, _Wanted(worker, self._of(worker)), self.on_error)
        failures.most = self.most
        scores = failures(samples, prompts)
        with _learning:  # parts that began before know nothing of it
            self.most = min((most for most in (self.most, failures.most) if most is not None), default=None)
        return scores

    def _of(self, worker: Worker) -> Scorer:
        """The reward, as a worker scores it."""
        if self.task is not None:
            return _InProcess(worker, self.task, self.limit)
        scorer = worker.program(self.inner) if isinstance(self.inner, External) else self.inner
        return scorer if self.limit is None else TimeLimit(scorer, self.limit)


def shares(n: int, workers: int) -> Iterator[slice]:
    """Parts of n samples: each is a share of those that are left, so that the last ones are small.

    As in guided self-scheduling (Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1425, 1987).
    """
    done = 0
    while done < n:
        size = -(-(n - done) // (PARTS * workers))
        yield slice(done, done + size)
        done += size


@dataclass(frozen=True)
class _InProcess:
    """A function in the process of a worker."""

    worker: Worker
    task: Task
    limit: float | None

    def __call__(self, samples: Samples, prompts: Prompts = None) -> object:
        return self.worker.process.call(self.task, samples, prompts, self.limit, lambda: self.worker.stopped)

    def cancel(self) -> bool:
        self.worker.stop()
        return True

    def close(self) -> None:
        """The worker ends its process."""


@dataclass(frozen=True)
class _Wanted:
    """A scorer whose failures are none once its worker was stopped."""

    worker: Worker
    inner: Scorer

    def __call__(self, samples: Samples, prompts: Prompts = None) -> object:
        if self.worker.stopped:
            raise Stopped
        try:
            return self.inner(samples, prompts)
        except BaseException:
            if self.worker.stopped:
                raise Stopped from None
            raise

    def cancel(self) -> bool:
        return self.inner.cancel()

    def close(self) -> None:
        self.inner.close()


def _result(future: "Future[T]", stopped: "Future[Any]") -> T:
    both: tuple[Future[Any], ...] = (future, stopped)
    wait(both, return_when=FIRST_COMPLETED)
    if not future.done():
        raise Stopped
    try:
        return future.result()
    except CancelledError:
        raise Stopped from None


def _drained(todo: "SimpleQueue[Job]") -> "Iterator[tuple[Future[Any], Part]]":
    while True:
        try:
            job = todo.get_nowait()
        except Empty:
            return
        if job is not None:
            yield job


def _dismiss(workers: list[Worker], todo: "SimpleQueue[Job]") -> None:
    for _ in workers:
        todo.put(None)


def _at_exit() -> None:
    for pool in list(_pools):
        pool.close()


# After that of multiprocessing, whose own waits for processes that still have work; the last one is called first.
import multiprocessing.util  # noqa: E402, F401

atexit.register(_at_exit)
