"""Blocks of requests that take turns: the network runs for one of them while workers score another.

Each block has a thread, but only one thread runs at a time: a block gives the turn up while it waits for scores
(:mod:`guided.scoring.turns`). So models, samplers and decoders need not be made for threads, and a block's samples do
not depend on the other. The caller has the turn, too, from when it is given a result until it asks for the next one.
"""

__all__ = ["Step", "in_turns"]

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Generic, TypeAlias, TypeVar

import torch

from guided.scoring.limits import Stopped
from guided.scoring.turns import turn

T = TypeVar("T")
Step: TypeAlias = Callable[..., None]  # called at each step of a block
AT_ONCE = 2


def in_turns(
    jobs: Sequence[Callable[[Step], T]], step: Step, cancel: Callable[[], None], device: torch.device
) -> Generator[T, None, None]:
    """The results of jobs, in order, two at a time.

    A job that fails ends them: results of earlier ones are yielded first.

    Args:
        jobs: Each is called with a function that it calls at its steps, and returns a result.
        step: Called, in the caller's thread, at the steps of the first job that is not finished.
        cancel: Ends what jobs wait for; called when their results are not wanted any more.
        device: The model's.
    """
    lock, threads = Lock(), list[_Job[T]]()
    try:
        for i in range(len(jobs)):
            while len(threads) < min(len(jobs), i + AT_ONCE) and not any(job.failed for job in threads):
                threads.append(_Job(jobs[len(threads)], lock, _settings(device)))
            result = threads[i].result(step)
            with lock:
                yield result
    finally:
        running = [job for job in threads if job.thread.is_alive()]
        for job in running:
            job.stop.set()
        while any(job.thread.is_alive() for job in running):  # one may ask for something again after it was ended
            cancel()
            for job in running:
                job.thread.join(0.1)


@dataclass(eq=False)
class _Job(Generic[T]):
    """A job in a thread of its own.

    Args:
        call: The job.
        lock: Who has it has the turn.
        settings: The settings of torch that belong to a thread.
    """

    call: Callable[[Step], T]
    lock: Any
    settings: Callable[[], AbstractContextManager[Any]]
    events: "SimpleQueue[tuple[str, Any]]" = field(default_factory=SimpleQueue)
    stop: Event = field(default_factory=Event)
    failed: bool = False

    def __post_init__(self) -> None:
        self.thread = Thread(target=copy_context().run, args=(self._run,), daemon=True, name="block")
        self.thread.start()

    def result(self, step: Step) -> T:
        """What the job returns; its steps are reported."""
        while True:
            kind, given = self.events.get()
            if kind == "done":
                return given
            if kind == "failed":
                raise given
            step(*given)

    def _run(self) -> None:
        try:
            with self.settings(), turn(self.lock):
                result = self.call(self._step)
            self.events.put(("done", result))
        except BaseException as error:
            self.failed = True
            self.events.put(("failed", error))

    def _step(self, *state: Any) -> None:
        if self.stop.is_set():
            raise Stopped
        self.events.put(("step", state))


def _settings(device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """The settings of torch in this thread, for another one: results are the same there to the last bit."""
    threads, default, kind = torch.get_num_threads(), torch.get_default_device(), device.type
    gpu = torch.cuda.current_device() if kind == "cuda" else None
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    def entered() -> ExitStack:
        torch.set_num_threads(threads)  # it decides how sums are rounded
        if gpu is not None:
            torch.cuda.set_device(gpu)
        stack = ExitStack()
        if default.type != "cpu":
            stack.enter_context(torch.device(default))
        if cast is not None:
            stack.enter_context(torch.autocast(kind, cast))
        return stack

    return entered
