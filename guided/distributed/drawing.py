"""An executor: blocks are handed out to the processes of a group, and come back as they finish."""

__all__ = ["Drawing"]

import time
from collections.abc import Callable, Hashable

from guided.core.monitor import Progress
from guided.distributed.blocks import Blocks
from guided.distributed.group import Group
from guided.distributed.messages import Done, Event, Failed, Lost, Step, Task
from guided.distributed.setup import packed
from guided.runs.config import RunConfig
from guided.runs.executors import Placed
from guided.samplers import Sampler
from guided.scoring.objective import Objective

Hook = Callable[[Progress], None] | None


class RemoteTrace(Exception):
    """The traceback of an exception in another process, as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Drawing:
    """Draws blocks with the processes of a group.

    Args:
        group: The processes. They start with the first block, and stay until the run is closed.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.objective: Objective | None = None

    @property
    def size(self) -> int:
        """How many blocks are drawn at a time."""
        return self.group.size

    @property
    def device(self) -> str:
        """The type of the devices."""
        return self.group.device

    def open(self, config: RunConfig, objective: Objective | None) -> None:
        """Takes the description of the run.

        Raises:
            GuidedError: A part of it cannot be sent to another process.
        """
        self.objective = objective
        self.group.prepare(packed(config, objective))

    def draw(self, blocks: list[list[int]], sampler: Sampler | None, progress: Hook) -> Placed:
        """Draws blocks; yields each with its place in the list, as they finish.

        Raises:
            GuidedError: A block cannot be drawn, or was lost twice.
        """
        queue, seen = Blocks(blocks), Seen(sum(map(len, blocks)), progress)
        self.group.start(len(blocks))
        try:
            while not queue.finished:
                self._hand_out(queue, sampler)
                for worker, event in self.group.events():
                    place = self._happened(worker, event, queue, seen)
                    if place is not None and isinstance(event, Done):
                        yield place, event.batch
            if queue.error is not None:
                raise queue.error
        finally:
            if queue.drawn_by or not queue.finished:  # what they still draw is not wanted
                self.group.close(patient=False)

    def _hand_out(self, queue: Blocks, sampler: Sampler | None) -> None:
        for worker in self.group.idle():
            place = queue.next(worker)
            if place is None:
                return
            self.group.give(worker, Task(place, queue.blocks[place], sampler))

    def _happened(self, worker: Hashable, event: Event, queue: Blocks, seen: "Seen") -> int | None:
        """Notes an event; the place of a block that was drawn."""
        if isinstance(event, Step):
            seen.step(worker, event, queue)
        elif isinstance(event, Lost):
            queue.lost(worker, event.why)
            seen.left(worker)
        elif isinstance(event, Failed):
            event.error.__cause__ = RemoteTrace(event.trace) if event.trace else None
            if worker not in queue.drawn_by:  # it could not load the run
                raise event.error
            queue.failed(worker, event.error)
        elif isinstance(event, Done):
            seen.left(worker, len(event.batch.requests))
            self._count(event)
            return queue.done(worker)
        return None

    def _count(self, event: Done) -> None:
        """Adds the failed scores of a block to those of the reward in this process."""
        for term, (number, first) in zip(self.objective.terms if self.objective else (), event.failures, strict=False):
            term.raw.failures += number
            term.raw.first_failure = term.raw.first_failure or first

    def close(self) -> None:
        """Ends all processes."""
        self.group.close()


class Seen:
    """The progress of all processes as that of one run.

    Args:
        total: The number of requests.
        progress: Called with it.
    """

    def __init__(self, total: int, progress: Hook) -> None:
        self.total, self.progress = total, progress
        self.done, self.start = 0, time.perf_counter()
        self.best: float | None = None
        self.steps: dict[Hashable, int] = {}
        if progress is not None:  # from which rates are counted
            progress(Progress("samples", 0, total))

    def step(self, worker: Hashable, event: Step, queue: Blocks) -> None:
        """Notes a step: what is shown is the mean step of the blocks that are being drawn."""
        self.steps[worker] = event.k
        if event.best is not None:
            self.best = event.best if self.best is None else max(self.best, event.best)
        if self.progress is not None:
            k = round(sum(self.steps.values()) / max(len(self.steps), len(queue.drawn_by)))
            seconds = time.perf_counter() - self.start
            self.progress(
                Progress("samples", self.done, self.total, k, event.steps, event.mean, self.best, seconds=seconds)
            )

    def left(self, worker: Hashable, finished: int = 0) -> None:
        """Notes that a process has left its block, finished or not."""
        self.steps.pop(worker, None)
        self.done += finished
