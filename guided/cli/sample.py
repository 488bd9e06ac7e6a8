"""The command `guided sample`: draws a run and shows the results."""

__all__ = ["sample"]

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from guided.cli.console import ProgressBar, number, show_table
from guided.distributed.launched import joined
from guided.errors import GuidedError
from guided.metrics.summary import summary
from guided.runs.config import RunConfig
from guided.runs.engine import Batch, Stats
from guided.runs.folder import table
from guided.runs.job import Job
from guided.runs.media import FILE_MODALITIES
from guided.runs.record import draw_alone, finish, folder_of, record
from guided.runs.sample import idle_value, resolve
from guided.samplers import sampler_to_dict
from guided.scoring.objective import Objective

SHOWN = 10


def sample(config: RunConfig) -> bool:
    """Draws the run and shows the results, or draws for the first process where a launcher has started several.

    Returns:
        Whether this is the first process.
    """
    with joined(config) as own:
        if own is not None:
            shown(own)
    return own is not None


def shown(config: RunConfig) -> None:
    """Draws the run and shows the results."""
    prompting = config.prompting
    if prompting.negative is not None and prompting.guidance == 1:  # allowed in Python, where comparisons need it
        raise GuidedError("--negative needs guidance, and --guidance 1 is none; give another weight")
    if idle := idle_value(config):  # as well
        raise GuidedError(idle)
    job = resolve(config, shlex.join(["guided", *sys.argv[1:]]))
    if job.out is None and job.model.modality in FILE_MODALITIES:
        raise GuidedError(
            f"the samples of {config.source.model!r} are {job.model.modality}; give --out, the folder for them"
        )
    if prompting.guidance not in (None, 1) and prompting.prompt is None and job.model.prompting.negative is None:
        print("note: --guidance changes nothing without a prompt", file=sys.stderr)
    if job.chosen:
        name, *fields = (f"{field}={value}" for field, value in sampler_to_dict(job.sampler).items())
        print(f"sampler {name.removeprefix('name=')} ({', '.join(fields)}), chosen for {job.chosen}")
    with closing(job), _written(config.run.out):
        if config.run.only is not None:
            only(job)
        elif config.run.out is None:
            show(job)
        else:
            into_folder(job, config.run.out)
    show_failures(job.objective)


@contextmanager
def _written(out: Path | None) -> Iterator[None]:
    """Turns an OSError into a GuidedError that names the folder."""
    try:
        yield
    except OSError as error:
        if out is None:
            raise
        raise GuidedError(f"cannot write to the folder {str(out)!r}: {error.strerror or error}") from error


def into_folder(job: Job, out: Path) -> None:
    """Draws the samples that the folder does not hold yet, and reports."""
    run = job.config.run
    with folder_of(job) as folder, ProgressBar(run.batch_size * job.spread) as bar:
        before = folder.done
        if folder.moved:
            print(f"note: {folder.moved}", file=sys.stderr)
        for batch in record(job, folder, bar):
            bar.finished(batch, folder.done, run.n)
        new = folder.done - before
        state = "finished" if not before else f"{new} of them new" if new else "already finished, nothing to do"
        print(f"{out / 'samples.csv'}: {folder.done} samples, {state}")
        show_cost(folder.stats, folder.summary)
        page = finish(job, folder, new > 0, bar, lambda note: print(f"note: {note}", file=sys.stderr))
    if page is not None:
        print(out / page.name)


def show(job: Job) -> None:
    """Draws all samples and shows the best; writes nothing."""
    run, batches = job.config.run, []
    with ProgressBar(run.batch_size * job.spread) as bar, closing(job.draw(job.requests, bar)) as drawn:
        for batch in drawn:
            batches.append(batch)
            bar.finished(batch, sum(len(it.samples) for it in batches), run.n)
    rows = [row for batch in batches for row in dictionaries(batch, run.seed)]
    rows.sort(key=lambda row: -row.get("reward", 0.0))
    show_samples(rows[:SHOWN])
    rewards = [reward for batch in batches for reward in batch.rewards] if job.objective else []
    show_cost(sum((batch.stats for batch in batches), Stats()), summary(rewards))


def only(job: Job) -> None:
    """Draws some requests, the same samples as in the whole run."""
    batches = draw_alone(job) if job.out is not None else job.draw(job.requests)
    show_samples([row for batch in batches for row in dictionaries(batch, job.config.run.seed)])
    if job.out is not None:
        print("\n".join(str(job.out / f"only-{request}.csv") for request in job.requests))


def dictionaries(batch: Batch, seed: int) -> list[dict[str, Any]]:
    """The rows of a batch by column."""
    header, rows = table(batch, seed, Stats())
    return [dict(zip(header, row, strict=True)) for row in rows]


def show_samples(rows: list[dict[str, Any]]) -> None:
    """A table of samples."""
    columns = [name for name in rows[0] if name not in ("seed", "first_call", "reward_calls", "network_rows")]
    numbers = [name for name in columns if name != "sample"]
    show_table(columns, [[row[name] for name in columns] for row in rows], right=numbers)


def show_cost(stats: Stats, rewards: Mapping[str, float]) -> None:
    """Prints a line about the rewards and a line about their cost."""
    lines = []
    if "median" in rewards:
        names = ("median", "mean", "max")
        failed = f", {rewards['failed']} failed" if rewards["failed"] else ""
        lines.append("reward " + ", ".join(f"{name} {number(float(rewards[name]))}" for name in names) + failed)
    if stats.stopped:
        lines.append(f"the budget ended the search of {stats.stopped:,} samples")
    parts = sorted(stats.seconds.items(), key=lambda part: part[0] == "total")
    seconds = ", ".join(f"{part} {spent:.1f} s" for part, spent in parts)
    calls = f"{stats.reward_calls:,} reward calls" + (f", {stats.cached:,} of them cached" if stats.cached else "")
    lines.append(f"{stats.network_rows:,} network rows, {calls}; {seconds}")
    print("\n".join(lines))


def show_failures(objective: Objective | None) -> None:
    """A note on scores that failed, if any did."""
    if objective is not None and objective.failures:
        failed = f"{objective.failures} scores failed and count as worst; the first: {objective.first_failure}"
        print(f"note: {failed}", file=sys.stderr)
