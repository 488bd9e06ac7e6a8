r"""A run's folder: the samples, and all that is needed to resume the run or to repeat it.

    samples.csv    request, seed, sample, reward, each reward raw and transformed, reward calls and network rows so far
    path.csv       batch, step, mean, best: the values of a batch's candidates over the steps
    calls.csv      batch, call, best, top: the best reward and the mean of the ten best after so many calls of a request
    run.json       the configuration, the command, versions, the cost, and a summary of the rewards
    progress.json  until the run is finished: the cost and the number of requests so far, in place of those in run.json
    samples/       samples that are images, videos or sounds; `samples.csv` has their paths
    blocks/        finished batches whose turn has not come, while several processes draw (see `guided.runs.parked`)

A run that was killed any number of times and resumed ends with the same bytes in `samples.csv` and `samples/` as one
that was not. So nothing in them depends on the clock, images are written before their line, a batch is written at once
and synced, and the rest of an unfinished batch (or of a line) is removed and drawn again. A file that was edited, with
lines that were sorted, removed or separated otherwise, is refused.
"""

__all__ = [
    "RunFolder",
    "summary",
    "table",
]

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from guided.errors import GuidedError
from guided.metrics.summary import summary
from guided.report.contents import POSES
from guided.report.record import PROGRESS, Stored, read_record
from guided.runs.engine import Batch, Stats
from guided.runs.media import drop, found, stored
from guided.runs.opened import sample_files
from guided.runs.parked import FOLDER, Parked, parked_in
from guided.scoring.identity import as_recorded
from guided.storage import (
    append_csv,
    difference,
    lock,
    make_folder,
    parse_csv,
    plain,
    read_csv,
    read_rows,
    refuse_foreign,
    refuse_links,
    write_csv,
    write_json,
    write_whole,
    writing,
)

Json = Any
LITTLE = ("python", "pillow", "accelerate")  # packages whose versions change no sample
TAIL = ["reward_calls", "network_rows"]
FIRST = "first_call"
HEADER = ["request", "seed", "sample"]
PATH = ["batch", "step", "mean", "best"]
CALLS = ["batch", "call", "best", "top"]
WRITTEN = (
    "samples",
    "unguided",
    "path",
    POSES,
    FOLDER,
    "samples.csv",
    "path.csv",
    "calls.csv",
    "run.json",
    PROGRESS,
)  # none of them may be a link to another place


class RunFolder:
    """An open run folder, locked against a second process; a context manager.

    Args:
        path: The folder; it is made when it is not there.
        config: All that the samples depend on, JSON-able; has `n`, `seed` and `batch_size`. A folder of another
            configuration is refused.
        notes: Further entries of `run.json`, JSON-able.
        aside: Only check that the folder is of this run; its files stay as they are.

    Attributes:
        done: The number of requests whose samples are in the file, a prefix of `0..n-1` in whole batches.
        moved: A message if these samples were drawn with other versions of packages than the rest will be.
        stats: Their cost, over all sessions; a kill loses at most the seconds of its unfinished batch.

    Raises:
        GuidedError: The folder cannot be written, is in use, holds another run, or samples that were edited.
    """

    def __init__(self, path: Path, config: Mapping[str, Json], notes: Mapping[str, Json], aside: bool = False) -> None:
        self.path, self.notes, self.aside = path, notes, aside
        self.config: dict[str, Json] = plain(config)
        self.samples, self.run = path / "samples.csv", path / "run.json"
        self.header: list[str] = []
        self._old = Stored(config={})
        self._open = ExitStack()
        self.done, self.stats, self.moved = 0, Stats(), ""
        self.parked = Parked(path, self.config["batch_size"])

    def __enter__(self) -> "RunFolder":
        make_folder(self.path)
        with self._open as stack, writing(self.path):
            if not self.aside:
                stack.enter_context(lock(self.path))
            refuse_links(self.path, WRITTEN)
            self._refuse_another_run()
            if not self.aside:
                self._resume()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def summary(self) -> dict[str, float | int]:
        """Summary statistics of the rewards so far."""
        return summary([float(row["reward"]) for row in read_rows(self.samples) if "reward" in row])

    @property
    def missing(self) -> list[int]:
        """The requests that are still to be drawn."""
        return [i for i in range(self.done, self.config["n"]) if not self.parked.holds(i)]

    def put(self, batch: Batch) -> Iterator[Batch]:
        """Writes a finished batch, and those that waited for it; one whose turn has not come is parked.

        Yields:
            The batches that were written.

        Raises:
            GuidedError: The disk is full, or the columns are not those of the file.
        """
        if batch.requests[0] != self.done:
            self.parked.put(batch)
            return
        self.append(batch)
        yield batch
        yield from self.due()

    def due(self) -> Iterator[Batch]:
        """Writes and yields the parked batches whose turn has come."""
        while (number := self.done // self.config["batch_size"]) in self.parked and self.done < self.config["n"]:
            batch = self.parked.take(number)
            self.append(batch)
            self.parked.remove(number)
            yield replace(batch, samples=sample_files(self.path, batch.samples))
        self.parked.tidy()

    def append(self, batch: Batch) -> None:
        """Writes a finished batch, that of the next request.

        Raises:
            GuidedError: The disk is full, or the columns are not those of the file.
        """
        if self.header and FIRST not in self.header:  # the samples so far are of a former version
            batch = replace(batch, first_call=[])
        header, _ = table(batch, self.config["seed"], self.stats)
        if self.header and header != self.header:
            raise GuidedError(
                f"{str(self.samples)!r} has the columns {self.header}, this run writes {header}; use another --out"
            )
        index = batch.requests[0] // self.config["batch_size"]
        path = [[index, value.step, value.mean, value.best] for value in batch.path]
        calls = [[index, point.call, point.best, point.top] for point in batch.curve]
        with writing(self.path):
            _, rows = table(stored(batch, self.path), self.config["seed"], self.stats)
        append_csv(self.path / "path.csv", None if self.header else PATH, path)
        if calls:
            there = self.header and (self.path / "calls.csv").exists()
            append_csv(self.path / "calls.csv", None if there else CALLS, calls)
        done, stats = self.done + len(rows), self.stats + batch.stats
        self._write_progress(done, stats)  # first, with both counts: one of them is right after a kill
        append_csv(self.samples, None if self.header else header, rows)
        self.header, self.done, self.stats = header, done, stats
        if done == self.config["n"]:
            self._write_run(done, stats)

    def _refuse_another_run(self) -> None:
        """Refuses a folder with another configuration, or with samples but no `run.json`."""
        if not self.run.exists():
            if (self.path / "config.json").exists():
                raise GuidedError(f"{str(self.path)!r} holds a checkpoint; use another --out")
            there = [self.samples] if self.samples.exists() else [*found(self.path / "samples"), *parked_in(self.path)]
            if there:
                what = there[0].relative_to(self.path)
                raise GuidedError(
                    f"{str(self.path)!r} holds {what} but no run.json to say how it was made; use another --out"
                )
            refuse_foreign(self.path)
            return
        _, self._old = read_record(self.run, Stored)
        old = self._old.config
        config = {**self.config, **_reward(old, self.config)}
        if "process" not in old:  # a former version did not record it
            config.pop("process", None)
        if old != config and not self.samples.exists() and not parked_in(self.path):
            self._old = Stored(config={})  # that run has no samples: nothing is lost
        elif old != config:
            key, was, now = difference(old, config)
            raise GuidedError(
                f"{str(self.path)!r} holds another run: {key} is {was} there and {now} here; use another --out"
            )

    def _resume(self) -> None:
        """Counts the samples of whole batches and removes what follows them."""
        header, rows = self._samples()
        n, size = self.config["n"], self.config["batch_size"]
        self.done = n if len(rows) >= n else len(rows) // size * size
        self._resume_stats(dict(zip(header, rows[self.done - 1], strict=True)) if self.done else {})
        if self.done:
            self.header = header
        self.parked.resume(self.done, n)
        if self.done < n:
            drop(self.path / "samples", self.done, self.parked.holds)
        self._compare_versions()
        if header and self.done < n:
            write_csv(self.samples, [header, *rows[: self.done]])
            for name, columns in (("path.csv", PATH), ("calls.csv", CALLS)):
                if name == "path.csv" or (self.path / name).exists():
                    _, lines = read_csv(self.path / name)
                    kept = (row for row in lines if row[0].isdecimal() and int(row[0][:18]) * size < self.done)
                    write_csv(self.path / name, [columns, *kept])
        if self.done < n or self._old.requests_done != n or self._old.before is not None:
            self._write_run(self.done, self.stats)

    def _compare_versions(self) -> None:
        """Keeps the versions that the samples so far were drawn with, if others will draw the rest."""
        now, old, earlier = self.notes.get("versions", {}), self._old.versions, list(self._old.earlier_versions)
        if 0 < self.done < self.config["n"] and old and now:
            earlier += [old] if old != now and old not in earlier else []
            names = [name for name in {**now, **old} if name not in LITTLE and old.get(name) != now.get(name)]
            if names:
                pairs = ", ".join(f"{name} {old.get(name, 'none')} (now {now.get(name, 'none')})" for name in names)
                self.moved = f"the first {self.done} samples of {str(self.path)!r} were drawn with {pairs}"
        if earlier:
            self.notes = {**self.notes, "earlier_versions": earlier}

    def _samples(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of the samples, in the order of their requests.

        Raises:
            GuidedError: The file was edited; the message names the first such line.
        """
        text = self.samples.read_bytes().decode(errors="ignore") if self.samples.exists() else ""
        header, *rows = parse_csv(text if text.strip() else "") or [[]]
        if rows and header[: len(HEADER)] != HEADER:
            raise self._edited("the header", ",".join(header)[:80], ",".join(HEADER) + ",...")
        for i, row in enumerate(rows):
            due = [str(i), str(self.config["seed"])]
            if i == self.config["n"] or row[:2] != due:
                wanted = "the end of the file" if i == self.config["n"] else f"request {i} of seed {due[1]}"
                raise self._edited(f"row {i + 1}", ",".join(row)[:80], wanted)
            if len(row) != len(header):
                raise self._edited(f"row {i + 1}", f"a row of {len(row)} cells", f"{len(header)} cells")
        return header, rows

    def _edited(self, place: str, what: str, due: str) -> GuidedError:
        return GuidedError(
            f"{str(self.samples)!r} is not as the run left it: {place} is {what!r}, where {due!r} is due; nothing was "
            "changed; put the file back, remove it to draw all samples again, or use another --out"
        )

    def _resume_stats(self, last: Mapping[str, str]) -> None:
        """Rows and calls are read from the last kept sample; the seconds count even if samples were removed.

        Raises:
            GuidedError: That sample has no numbers there.
        """
        spent, before = self._old.stats, self._old.before
        kept = before.stats if before is not None and before.requests_done == self.done else spent
        rows, calls = (self._number(last, name) for name in ("network_rows", "reward_calls"))
        cached, stopped = min(kept.cached, calls), min(kept.stopped, self.done)
        self.stats = Stats(rows, kept.network_calls if rows else 0, calls, spent.seconds, cached, stopped)

    def _number(self, last: Mapping[str, str], name: str) -> int:
        text = last.get(name, "0")
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise self._edited(f"{name} of row {self.done}", text[:80], "a whole number")
        return int(text)

    def _write_run(self, done: int, stats: Stats) -> None:
        """Writes the whole record, which may be long: once when a run begins or goes on, and at its end."""
        run = {"config": self.config, **self.notes, "requests_done": done, "stats": asdict(stats)}
        if done == self.config["n"]:
            run["summary"] = self.summary
        write_whole(self.run, json.dumps(run, indent=2, ensure_ascii=False) + "\n")
        with writing(self.path):
            (self.path / PROGRESS).unlink(missing_ok=True)

    def _write_progress(self, done: int, stats: Stats) -> None:
        """Writes the counts with the batch that follows, and those without it."""
        before = {"requests_done": self.done, "stats": asdict(self.stats)}
        write_json(self.path / PROGRESS, {"requests_done": done, "stats": asdict(stats), "before": before})


def _reward(old: Json, new: Mapping[str, Json]) -> dict[str, Json]:
    """The reward of the configuration, as a former version recorded it if it is the same reward."""
    given = old.get("reward") if isinstance(old, Mapping) else None
    return {"reward": as_recorded(given, new["reward"])} if "reward" in new else {}


def table(batch: Batch, seed: int, before: Stats) -> tuple[list[str], list[list[Json]]]:
    """The header and the rows of a batch, with the call at which each was first scored; reward calls and network rows
    are added to those of `before`.
    """
    names = [name for name in batch.columns if name != "reward"]
    names = ["reward", *names] if "reward" in batch.columns else names
    first: list[list[Json]] = [batch.first_call] if batch.first_call else []
    header = ["request", "seed", "sample", *names, *[FIRST for _ in first], *TAIL]
    stats = before + batch.stats
    columns = [*([float(score) for score in batch.columns[name]] for name in names), *first]
    samples = zip(batch.requests, batch.samples, *columns, strict=True)
    return header, [[i, seed, *rest, stats.reward_calls, stats.network_rows] for i, *rest in samples]
