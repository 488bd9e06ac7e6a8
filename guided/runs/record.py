"""Runs in folders: batches are written as they finish; the report is written at the end."""

__all__ = ["draw_alone", "finish", "folder_of", "record"]

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from guided.core.monitor import Progress
from guided.errors import GuidedError, RewardError
from guided.report import write_report
from guided.report.fasta import write_fasta
from guided.runs.compare import compare
from guided.runs.describe import description, notes, unnamed
from guided.runs.engine import Batch, Stats
from guided.runs.folder import RunFolder, table
from guided.runs.job import Job
from guided.runs.media import IMAGE_MODALITIES, stored
from guided.runs.opened import batches_in
from guided.runs.parked import FOLDER
from guided.runs.poses import write_poses
from guided.runs.watch import watch
from guided.samplers import Unguided
from guided.scoring.identity import check_trust
from guided.storage import write_csv

Hook = Callable[[Progress], None] | None


def folder_of(job: Job, aside: bool = False) -> RunFolder:
    """The folder of a run, as a context manager.

    Args:
        job: The run; it has a folder.
        aside: Only check that the folder is of this run.

    Raises:
        GuidedError: The folder holds another run, or a reward that cannot be checked to be the same.
    """
    if job.out is None:
        raise GuidedError("the run has no folder")
    if not aside:
        _check_reward(job, job.out)
    return RunFolder(job.out, description(job), notes(job), aside)


def _check_reward(job: Job, out: Path) -> None:
    """Refuses to resume a run whose reward may have been another one."""
    names = unnamed(job.objective)
    samples, parked = out / "samples.csv", out / FOLDER
    there = parked if parked.exists() else samples
    if names and there.exists() and not job.config.rewards.trust_rewards:
        raise GuidedError(
            f"{str(out)!r} holds samples, and nothing shows that the reward {names[0]!r} is the one that scored "
            "them: give a function of a module, or trust_rewards=True (--trust-rewards) to resume"
        )
    opaque = job.objective.opaque if job.objective else None
    check_trust(there, opaque, job.config.rewards.trust_rewards)


def record(job: Job, folder: RunFolder, progress: Hook = None) -> Iterator[Batch]:
    """Draws the batches that the folder does not hold yet, writes them in their order, and yields them."""
    if job.preferences is not None and job.preferences.adaptive:
        for batch in batches_in(folder.path):
            job.learn(batch)
    yield from folder.due()
    with closing(job.drawn(folder.missing, progress)) as batches:
        for _, batch in batches:
            yield from folder.put(batch)


def finish(
    job: Job, folder: RunFolder, new: bool, progress: Hook = None, note: Callable[[str], None] = print
) -> Path | None:
    """Writes sequences as FASTA, poses if they are wanted, and the report if it is and there are new samples.

    Args:
        job: The run.
        folder: Its folder, with all samples.
        new: Whether there are samples that the last report did not have.
        progress: Called often.
        note: Called with a message if a part of the report is missing.

    Returns:
        The report, if it was written.
    """
    out = folder.path
    if job.model.modality != "text":
        write_fasta(out)
    if job.config.run.poses and job.objective is not None:
        write_poses(out, job.objective, note)
    if not job.config.run.report or not (new or not (out / "report.html").exists()):
        return None
    if job.objective and not isinstance(job.sampler, Unguided) and not (out / "unguided.csv").exists():
        try:
            compare(job, out, progress)
        except RewardError as error:  # the run's own samples are complete
            note(f"the report has no unguided samples: {error}")
    if job.model.modality in IMAGE_MODALITIES:
        try:
            watch(job, out)
        except RewardError as error:
            note(f"the report does not show the steps of a sample: {error}")
    return write_report(out, job.objective)


def draw_alone(job: Job, progress: Hook = None) -> Iterator[Batch]:
    """Draws the requests of `only`, each into a file of its own in the run folder."""
    with folder_of(job, aside=True) as folder, closing(job.draw(job.requests, progress)) as batches:
        for batch in batches:
            header, rows = table(stored(batch, folder.path, "only-{}"), job.config.run.seed, Stats())
            try:
                for request, row in zip(batch.requests, rows, strict=True):
                    write_csv(folder.path / f"only-{request}.csv", [header, row])
            except OSError as error:
                raise GuidedError(f"cannot write to the folder {str(folder.path)!r}: {error.strerror}") from error
            yield batch
