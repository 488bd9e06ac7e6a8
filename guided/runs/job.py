"""A run as objects: the model, reward and sampler that its description names, loaded."""

__all__ = ["Job"]

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import cast

from guided.core.diffusion import Diffusion
from guided.core.monitor import Progress
from guided.runs.config import RunConfig
from guided.runs.editing import Start
from guided.runs.engine import Batch, batches_of
from guided.runs.executors import Executor, Placed, in_order, numbered
from guided.runs.preferences import Preferences
from guided.runs.prompts import Prompts
from guided.samplers import Sampler
from guided.scoring.objective import Objective
from guided.values.protocol import Value


@dataclass(frozen=True)
class Job:
    """The objects that a run is drawn with.

    Args:
        config: The description.
        model: The model with its steps, negative side and start.
        sampler: The sampler.
        objective: The reward; None if there is none.
        prompts: The prompts of the requests.
        value: The value that the sampler selects by; None if it needs none.
        named: The value in the description, if there is one.
        start: The image that requests start from, if any.
        out: The folder, as an absolute path; None if nothing is written.
        command: The command line of the run; "" if there is none.
        executor: Who draws the blocks; None for this process.
        preferences: The weights of each request; None if all have the same.
        chosen: Why this sampler was chosen; "" if it was given.
    """

    config: RunConfig
    model: Diffusion
    sampler: Sampler
    objective: Objective | None
    prompts: Prompts
    value: Value | None = None
    named: Value | None = None
    start: Start = field(default_factory=Start)
    out: Path | None = None
    command: str = ""
    executor: Executor | None = None
    preferences: Preferences | None = None
    chosen: str = ""

    @property
    def requests(self) -> list[int]:
        """The numbers of the requests to draw."""
        run = self.config.run
        return list(range(run.n)) if run.only is None else list(cast("list[int]", run.only))

    def draw(
        self,
        requests: list[int],
        progress: Callable[[Progress], None] | None = None,
        sampler: Sampler | None = None,
    ) -> Generator[Batch, None, None]:
        """Draws these requests in batches; requests of the same block of `batch_size` are drawn together."""
        return in_order(self.drawn(requests, progress, sampler))

    def drawn(
        self,
        requests: list[int],
        progress: Callable[[Progress], None] | None = None,
        sampler: Sampler | None = None,
    ) -> Placed:
        """The same batches with their places, in the order in which they finish. One block alone is drawn here,
        unless there is a cluster, whose devices may be others.
        """
        run = self.config.run
        blocks = [list(block) for _, block in groupby(requests, key=lambda i: i // run.batch_size)]
        if self.executor is not None and (len(blocks) > 1 or self.config.places.cluster is not None):
            return self.executor.draw(blocks, sampler, progress)
        chosen = sampler or self.sampler
        batches = batches_of(
            self.model,
            self.prompts,
            self.objective,
            chosen,
            self.value,
            blocks,
            run.seed,
            progress,
            self.preferences,
            self.config.budgets.budget,
        )
        return numbered(batches if sampler else self._learnt(batches))

    def _learnt(self, batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
        """Batches of the run's own sampler, which the preferences learn from before the next one begins."""
        with closing(batches):
            for batch in batches:
                self.learn(batch)
                yield batch

    def learn(self, batch: Batch) -> None:
        """Tells the preferences of a finished batch."""
        if self.preferences is not None:
            self.preferences.learn(batch.requests, batch.columns)

    @property
    def spread(self) -> int:
        """How many blocks are drawn at a time."""
        return 1 if self.executor is None else self.executor.size

    @property
    def device(self) -> str:
        """The type of the devices that draw: "cpu", "cuda", ..."""
        return self.model.device.type if self.executor is None else self.executor.device

    def close(self) -> None:
        """Ends the processes that draw and the model's loops, and closes external rewards unless they belong to the
        caller.
        """
        self.model.close()
        if self.executor is not None:
            self.executor.close()
        if self.objective is not None and self.objective is not self.config.rewards.reward:
            self.objective.close()
