"""A run as objects: what its description names, loaded."""

__all__ = ["Job"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import cast

from guided.core.diffusion import Diffusion
from guided.core.monitor import Progress
from guided.runs.config import RunConfig
from guided.runs.editing import Start
from guided.runs.engine import Batch, batches_of
from guided.runs.prompts import Prompts
from guided.samplers import Sampler
from guided.scoring.objective import Objective
from guided.values.protocol import Value


@dataclass(frozen=True)
class Job:
    """What a run is drawn with.

    Args:
        config: The description.
        model: The model with its steps, negative side and start.
        sampler: The sampler.
        objective: The reward; None where there is none.
        prompts: The prompts of the requests.
        value: What the sampler selects by; None where it asks for none.
        named: The value that the description names, if it does.
        start: What requests start from.
        out: The folder, from the root; None where nothing is written.
        command: The command line of the run; "" where there is none.
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

    @property
    def requests(self) -> list[int]:
        """The requests that are asked for."""
        run = self.config.run
        return list(range(run.n)) if run.only is None else list(cast("list[int]", run.only))

    def draw(
        self,
        requests: list[int],
        progress: Callable[[Progress], None] | None = None,
        sampler: Sampler | None = None,
    ) -> Iterator[Batch]:
        """Draws these requests, batch by batch; those of one block of `batch_size` go together."""
        run = self.config.run
        blocks = [list(block) for _, block in groupby(requests, key=lambda i: i // run.batch_size)]
        chosen = sampler or self.sampler
        return batches_of(self.model, self.prompts, self.objective, chosen, self.value, blocks, run.seed, progress)

    def close(self) -> None:
        """Ends external rewards, unless they are the caller's."""
        if self.objective is not None and self.objective is not self.config.rewards.reward:
            self.objective.close()
