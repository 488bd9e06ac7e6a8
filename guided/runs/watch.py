"""The steps of one request as images: the look-ahead of its best candidate at a few steps, in `path/` of a run folder.

path/001.png …   the image at step 1, …
path/steps.csv   step, value, sample
"""

__all__ = ["Watching", "marks", "watch"]

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.runs.engine import Batch, Stats
from guided.runs.job import Job
from guided.runs.media import stored
from guided.samplers import Sampler
from guided.storage import read_rows, write_csv
from guided.values.noting import Noting
from guided.values.protocol import Value

LOOKS = 8  # images
REQUEST = 0


@dataclass(frozen=True)
class Watching:
    """A sampler of one request that records look-aheads; it draws the same sample as the sampler inside.

    Args:
        sampler: The sampler.
        looks: For each recorded step: the step, the best candidate's value, and its decoded look-ahead.
    """

    sampler: Sampler
    looks: list[tuple[int, float, object]] = field(default_factory=list)

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        first = model.requests.first_step(model.steps)
        return self.sampler(model, _Seen(value, marks(first, model.steps), self.looks), streams)


@dataclass(frozen=True)
class _Seen(Noting):
    """A value that records the best candidate at the first look-ahead on or after each of some steps."""

    value: Value
    steps: list[int]
    looks: list[tuple[int, float, object]]

    def note(self, particles: Particles, v: Tensor) -> None:
        due = [step for step in self.steps if step <= particles.k]
        if due:
            del self.steps[: len(due)]
            best = v[:1].argmax(1, keepdim=True)
            ahead = particles.take(best).look_ahead(preview=False)  # its network output is cached, or costs one row
            [image] = ahead.samples()
            self.looks.append((particles.k, float(v[0, best]), image))


def marks(first: int, last: int) -> list[int]:
    """At most eight steps after `first`, spread evenly up to `last`."""
    n = min(LOOKS, last - first)
    return [first + 1 + round(i * (last - first - 1) / max(1, n - 1)) for i in range(n)]


def watch(job: Job, out: Path) -> None:
    """Draws request 0 of a finished run again and writes its look-aheads as images, unless they exist.

    Does nothing if the sampler looked ahead at fewer than two steps.

    Raises:
        RewardError: The reward failed.
        OSError: The folder cannot be written.
    """
    if (out / "path" / "steps.csv").exists() or len({row["step"] for row in read_rows(out / "path.csv")}) < 2:
        return
    watching = Watching(job.sampler)
    for _ in job.draw([REQUEST], sampler=watching):
        pass
    steps, values, images = (list(column) for column in zip(*watching.looks, strict=True))
    batch = stored(Batch(steps, images, values, {}, Stats(), []), out, "path/{:03d}")
    rows = zip(steps, values, batch.samples, strict=True)
    write_csv(out / "path" / "steps.csv", [["step", "value", "sample"], *rows])
