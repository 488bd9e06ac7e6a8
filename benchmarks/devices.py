r"""One process against several, in one run: ratios of wall-clock time, and what a block costs besides being drawn.

    python benchmarks/devices.py --processes 2

Each process has one thread, as one core each. Both write the same `samples.csv`, which is checked. A pair is measured
several times, in turn; the load of the machine before each is printed, because other work on the cores changes the
ratio. Seconds are those of the whole run, with the start of the processes, and in brackets those from the first step
on: the start counts less the longer a run is. CPU seconds are those of all processes together.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import guided
from guided.distributed.processes import Local
from guided.distributed.setup import packed
from guided.runs.config import RunConfig
from guided.runs.engine import Batch, Stats
from guided.runs.folder import RunFolder
from guided.samplers import SVDD

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
BLOCKS = 200  # of the measurements of one block


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, also from the first step on, and CPU seconds of all processes that have ended."""

    wall: float
    drawing: float
    cpu: float


@dataclass(frozen=True)
class Work:
    """What is drawn."""

    model: str
    reward: str
    n: int
    batch_size: int
    steps: int
    prompt: str | None = None

    def run(self, out: Path, processes: int) -> "Spent":
        """Draws it into a folder."""
        start, cpu, steps = time.perf_counter(), sum(os.times()[:4]), list[float]()

        def stepped(state: guided.Progress) -> None:
            if state.step is not None and not steps:
                steps.append(time.perf_counter())

        options: dict[str, Any] = {"devices": ["cpu"] * processes} if processes > 1 else {"device": "cpu"}
        for _ in guided.stream(
            self.model,
            self.reward,
            SVDD(M=10),
            n=self.n,
            batch_size=self.batch_size,
            steps=self.steps,
            prompt=self.prompt,
            out=out,
            progress=stepped,
            **options,
        ):
            pass
        end = time.perf_counter()
        return Spent(end - start, end - steps[0], sum(os.times()[:4]) - cpu)


def works(scale: float) -> list[Work]:
    """Molecules and DNA, for about a minute each at scale 1."""
    return [
        Work("molecules", "qed", max(16, int(192 * scale)), 8, 64),
        Work("dna", "activity", max(8, int(64 * scale)), 4, 32, "HepG2"),
    ]


@contextmanager
def temporary() -> Iterator[Path]:
    """A folder that is removed."""
    path = Path(tempfile.mkdtemp())
    try:
        yield path
    finally:
        shutil.rmtree(path)


def pair(work: Work, processes: int) -> tuple[Spent, Spent, int]:
    """What one process takes, what several take, and the bytes of the folder that both have written."""
    with temporary() as folder:
        spent = [work.run(folder / str(number), number) for number in (1, processes)]
        texts = [(folder / str(number) / "samples.csv").read_bytes() for number in (1, processes)]
        if texts[0] != texts[1]:
            raise SystemExit(f"{work.model}: the files differ")
        return spent[0], spent[1], sum(path.stat().st_size for path in (folder / "1").iterdir())


def writer(rows: int = 64, length: int = 50) -> float:
    """Seconds in which a block of text samples is written and synced."""
    config = {"model": "none", "n": rows * BLOCKS, "seed": 0, "batch_size": rows}
    with temporary() as folder, RunFolder(folder, config, {}) as out:
        start = time.perf_counter()
        for i in range(BLOCKS):
            requests = list(range(i * rows, (i + 1) * rows))
            scores = [0.1 * i for i in requests]
            columns = {"qed_raw": scores, "qed": scores, "reward": scores}
            out.append(Batch(requests, ["C" * length] * rows, scores, columns, Stats(rows, 1, rows), []))
        return (time.perf_counter() - start) / BLOCKS


def queue() -> tuple[float, float]:
    """Seconds until a process can draw, and seconds of a block of 64 unguided samples that are made in no time, less
    what drawing it takes.
    """
    from guided.distributed.messages import Done, Ready, Step, Task

    group = Local(["cpu"])
    group.prepare(packed(RunConfig.of(model="rna", sampler="unguided", steps=1, n=64 * BLOCKS, device="cpu")))
    start = time.perf_counter()
    group.start(1)
    [(worker, event)] = group.events()
    assert isinstance(event, Ready)
    began, drawn = time.perf_counter(), 0.0
    for i in range(BLOCKS):
        group.give(worker, Task(i, list(range(64 * i, 64 * (i + 1)))))
        while isinstance(event := group.events()[0][1], Step):
            pass
        assert isinstance(event, Done)
        drawn += event.batch.stats.seconds["total"]
    ended = time.perf_counter()
    group.close()
    return began - start, (ended - began - drawn) / BLOCKS


@app.command()
def main(
    processes: Annotated[int, typer.Option(help="The number of processes.")] = 2,
    repeats: Annotated[int, typer.Option(help="How often each pair is measured.")] = 3,
    scale: Annotated[float, typer.Option(help="The size of the runs; 1 is about a minute each.")] = 1.0,
    only: Annotated[str, typer.Option(help="Only this model.")] = "",
) -> None:
    """Prints a line for each pair."""
    torch.set_num_threads(1)
    for work in works(scale):
        if only not in ("", work.model):
            continue
        ratios: list[float] = []
        inner: list[float] = []
        for _ in range(repeats):
            load = os.getloadavg()[0]
            one, several, size = pair(work, processes)
            ratios.append(one.wall / several.wall)
            inner.append(one.drawing / several.drawing)
            print(
                f"{work.model}: load {load:.1f}; one {one.wall:.1f} s ({one.drawing:.1f}), {processes} in "
                f"{several.wall:.1f} s ({several.drawing:.1f}), ratio {ratios[-1]:.2f} ({inner[-1]:.2f}); "
                f"CPU s {one.cpu:.1f}, {several.cpu:.1f}; {work.n / one.cpu:.2f} samples a CPU s, "
                f"{size / work.n:.0f} bytes a sample",
                flush=True,
            )
        print(f"{work.model}: medians {statistics.median(ratios):.2f} ({statistics.median(inner):.2f})", flush=True)
    start, block = queue()
    print(f"load {os.getloadavg()[0]:.1f}: a process starts in {start:.1f} s")
    print(f"a block of 64 text samples: {1e3 * block:.2f} ms in the queue, {1e3 * writer():.2f} ms to write")


if __name__ == "__main__":
    app()
