"""Unguided samples to compare a run with: the same requests of the same seed, scored by the same reward."""

__all__ = ["compare"]

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from guided.core.monitor import Progress
from guided.runs.engine import Stats
from guided.runs.folder import table
from guided.runs.job import Job
from guided.runs.media import stored
from guided.samplers import Unguided
from guided.storage import write_csv

COMPARED = 256  # the largest number of unguided samples


def compare(job: Job, out: Path, progress: Callable[[Progress], None] | None = None) -> None:
    """Draws unguided samples of the first requests, at most `COMPARED`, into `unguided.csv`.

    Raises:
        RewardError: The reward failed.
        OSError: The folder cannot be written.
    """
    run = job.config.run
    rows: list[list[Any]] = []
    header: list[str] = []
    stats = Stats()

    def renamed(state: Progress) -> None:
        if progress is not None:
            progress(replace(state, stage="unguided samples to compare with"))

    requests = list(range(min(run.n, COMPARED)))
    with closing(job.draw(requests, renamed, Unguided())) as batches:
        for batch in batches:
            header, new = table(stored(batch, out, "unguided/{:05d}"), run.seed, stats)
            rows, stats = rows + new, stats + batch.stats
            renamed(Progress("", len(rows), len(requests)))
    write_csv(out / "unguided.csv", [header, *rows])
