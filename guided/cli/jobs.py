"""What `guided sample` does: load, draw, write as batches finish, compare with the unguided model, report."""

__all__ = ["Job", "all_versions", "prepare", "run"]

import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import guided
from guided.cli.console import Bar, number, show_table
from guided.cli.options import Options
from guided.cli.start import Start
from guided.cli.watch import watch
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError, RewardError
from guided.loading import load
from guided.report.fasta import write_fasta
from guided.runs.engine import Batch, Progress, Stats
from guided.runs.folder import RunFolder, summary, table
from guided.runs.images import KINDS, stored
from guided.runs.sample import against, stream
from guided.runs.versions import versions
from guided.samplers import Sampler, Unguided, sampler_from_dict, sampler_to_dict
from guided.scoring.objective import Objective, resolve_reward
from guided.storage import write_csv
from guided.values.learned import LearnedValue
from guided.values.load import load_value

COMPARED = 256  # unguided samples at most, beside which the report shows the run
SHOWN = 10
PACKAGES = ("torch", "numpy", "rdkit", "selfies", "diffusers", "transformers", "accelerate", "peft", "pillow")


@dataclass(frozen=True)
class Job:
    """What the options name, loaded."""

    options: Options
    model: Diffusion
    objective: Objective | None
    sampler: Sampler
    prompt: str | list[str] | None
    value: LearnedValue | None = None
    start: Start = field(default_factory=Start)

    @property
    def config(self) -> dict[str, Any]:
        """What decides the samples.

        What a failing reward does is not of it: a run that was stopped by one may go on another way.
        """
        options, model = self.options, self.model
        return {
            "model": options.model,
            "identity": model.identity,
            "reward": self.objective.spec if self.objective else None,
            "sampler": sampler_to_dict(self.sampler),
            "n": options.n,
            "seed": options.seed,
            "steps": options.steps or model.steps,
            "batch_size": options.batch_size,
            "prompt": self.prompt,
            "guidance": options.guidance,
            "device": model.device.type,
            "dtype": options.dtype,
            "draws": options.draws,
            **({} if self.value is None else {"value": self.value.identity}),
            **({} if options.negative_prompt is None else {"negative_prompt": options.negative_prompt}),
            **({"rescale": options.rescale} if options.rescale else {}),
            **({} if options.negative is None else {"negative": options.negative}),
            **self.start.config,
        }

    @property
    def notes(self) -> dict[str, Any]:
        options = self.options
        failing = {"on_error": options.on_error, "time_limit": options.time_limit}
        name = {"reward_name": self.objective.name} if self.objective else {}
        return {"command": shlex.join(["guided", *sys.argv[1:]]), **name, **failing, "versions": all_versions()}

    def draw(
        self, only: list[int], sampler: Sampler | None = None, progress: Callable[[Progress], None] | None = None
    ) -> Iterator[Batch]:
        """Draws these requests of the run, batch by batch."""
        options = self.options
        return stream(
            self.model,
            self.objective,
            sampler or self.sampler,
            options.n,
            options.seed,
            prompt=self.prompt,
            negative_prompt=options.negative_prompt,
            guidance=options.guidance,
            rescale=options.rescale,
            image=self.start.image,
            strength=self.start.strength,
            mask=self.start.mask,
            steps=options.steps,
            batch_size=options.batch_size,
            draws=options.draws,
            value=self.value,
            only=only,
            progress=progress,
        )


def prepare(options: Options) -> Job:
    """Loads what the options name, the cheap first."""
    try:
        sampler = sampler_from_dict(options.sampler_fields)
    except TypeError as error:  # numbers where a pair is wanted, and the like
        raise GuidedError(f"sampler {options.sampler!r}: {error}") from error
    prompt = options.read_prompt()
    start = Start.read(options.image, options.mask, options.strength)
    objective = None
    if options.reward:
        objective = resolve_reward(
            list(options.reward) if len(options.reward) > 1 else options.reward[0],
            aggregate=options.aggregate,
            on_error=options.on_error,
            time_limit=options.time_limit,
        )
    model = against(load(options.model, device=options.device, dtype=options.dtype), options.negative)
    value = None if options.value is None else load_value(options.value)
    if options.out is None and model.modality in KINDS:
        raise GuidedError(f"the samples of {options.model!r} are {model.modality}; give --out, the folder for them")
    return Job(options, model, objective, sampler, prompt, value, start)


def run(options: Options) -> None:
    """The command `guided sample`."""
    job = prepare(options)
    try:
        if options.only is not None:
            only_one(job, options.only)
        elif options.out is None:
            show(job)
        else:
            into_folder(job, options.out)
    except OSError as error:
        if options.out is None:
            raise
        raise GuidedError(f"cannot write to the folder {str(options.out)!r}: {error.strerror or error}") from error
    finally:
        if job.objective:
            job.objective.close()
    if job.objective and job.objective.failures:
        failed = f"{job.objective.failures} scores failed and count as worst; the first: {job.objective.first_failure}"
        print(f"note: {failed}", file=sys.stderr)


def into_folder(job: Job, out: Path) -> None:
    """Draws what the folder does not hold yet, and reports."""
    with RunFolder(out, job.config, job.notes) as folder:
        before = folder.done
        with Bar(job.options.n, before, job.options.batch_size) as bar:
            for batch in job.draw(folder.missing, progress=bar) if folder.missing else ():
                folder.append(batch)
                bar.finished(batch)
        new = folder.done - before
        state = "finished" if not before else f"{new} of them new" if new else "already finished, nothing to do"
        print(f"{out / 'samples.csv'}: {folder.done} samples, {state}")
        show_cost(folder.stats, folder.summary)
        write_fasta(out)
        if job.options.report and (new or not (out / "report.html").exists()):
            report(job, out)


def show(job: Job) -> None:
    """Draws all and shows the best; writes nothing."""
    batches = []
    with Bar(job.options.n, 0, job.options.batch_size) as bar:
        for batch in job.draw(list(range(job.options.n)), progress=bar):
            batches.append(batch)
            bar.finished(batch)
    rows = [row for batch in batches for row in dictionaries(batch, job.options.seed)]
    rows.sort(key=lambda row: -row.get("reward", 0.0))
    show_samples(rows[:SHOWN])
    rewards = [reward for batch in batches for reward in batch.rewards] if job.objective else []
    show_cost(sum((batch.stats for batch in batches), Stats()), summary(rewards))


def only_one(job: Job, request: int) -> None:
    """Draws one request, the same sample as in the whole run."""
    out, seed = job.options.out, job.options.seed
    [batch] = job.draw([request])
    if out is not None:
        with RunFolder(out, job.config, job.notes, aside=True):
            batch = stored(batch, out, "only-{}")
            header, rows = table(batch, seed, Stats())
            write_csv(out / f"only-{request}.csv", [header, *rows])
    show_samples(dictionaries(batch, seed))


def dictionaries(batch: Batch, seed: int) -> list[dict[str, Any]]:
    header, rows = table(batch, seed, Stats())
    return [dict(zip(header, row, strict=True)) for row in rows]


def show_samples(rows: list[dict[str, Any]]) -> None:
    columns = [name for name in rows[0] if name not in ("seed", "reward_calls", "network_rows")]
    numbers = [name for name in columns if name != "sample"]
    show_table(columns, [[row[name] for name in columns] for row in rows], right=numbers)


def show_cost(stats: Stats, law: Mapping[str, float]) -> None:
    """A line on the rewards and a line on what they cost."""
    lines = []
    if "median" in law:
        names = ("median", "mean", "max")
        failed = f", {law['failed']} failed" if law["failed"] else ""
        lines.append("reward " + ", ".join(f"{name} {number(float(law[name]))}" for name in names) + failed)
    parts = sorted(stats.seconds.items(), key=lambda part: part[0] == "total")
    seconds = ", ".join(f"{part} {spent:.1f} s" for part, spent in parts)
    lines.append(f"{stats.network_rows:,} network rows, {stats.reward_calls:,} reward calls; {seconds}")
    print("\n".join(lines))


def report(job: Job, out: Path) -> None:
    """Draws the unguided samples to compare with, unless they are there, and writes `report.html`."""
    from guided.report import write_report

    if job.objective and not isinstance(job.sampler, Unguided) and not (out / "unguided.csv").exists():
        try:
            compare(job, out)
        except RewardError as error:  # the run's own samples are complete
            print(f"note: the report has no unguided samples: {error}", file=sys.stderr)
    if job.model.modality in KINDS:
        try:
            watch(job.sampler, job.draw, out)
        except RewardError as error:
            print(f"note: the report does not show the way of a sample: {error}", file=sys.stderr)
    print(write_report(out, job.objective))


def compare(job: Job, out: Path) -> None:
    """As many unguided samples of the same seed, by the same objective, into `unguided.csv`."""
    only = list(range(min(job.options.n, COMPARED)))
    rows: list[list[Any]] = []
    header: list[str] = []
    stats = Stats()
    with Bar(len(only), 0, job.options.batch_size, "unguided samples to compare with") as bar:
        for batch in job.draw(only, Unguided(), bar):
            header, new = table(stored(batch, out, "unguided/{:05d}"), job.options.seed, stats)
            rows, stats = rows + new, stats + batch.stats
    write_csv(out / "unguided.csv", [header, *rows])


def all_versions() -> dict[str, str]:
    """Versions of all that the samples may depend on."""
    return {"guided": guided.__version__, "python": platform.python_version(), **versions(PACKAGES)}
