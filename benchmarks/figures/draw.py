"""The two ways of measuring a run: samples of guided, and a script of this repository."""

__all__ = ["drawn", "quantiles", "script"]

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import guided
from benchmarks.figures.measured import ROOT
from benchmarks.figures.recipe import Missing, Row, Settings
from guided import Run


def drawn(**measures: Callable[[Run], Any]) -> Callable[[Settings, Path], list[Row]]:
    """Measures what `guided.sample` draws with the settings.

    A row has the reward's quantiles (`low`, `median`, `high`: 10, 50 and 90 %), its `mean` and `worst`, the number of
    samples `n` and of `distinct` ones, `rows` of the network and `calls` of the reward for all samples, and the same
    for one (`rows_each`, `calls_each`); `seconds` of the processor, and `clock`. Then what `measures` say.
    """

    def measure(settings: Settings, work: Path) -> list[Row]:
        options = dict(settings)
        model = guided.load(options.pop("model"), **options.pop("load", {}))
        start = time.process_time()
        run = guided.sample(model, **options)
        seconds, stats, n = time.process_time() - start, run.stats, len(run.samples)
        row = quantiles(run.rewards.tolist()) if settings.get("reward") else {}
        if isinstance(run.samples[0], str):
            row["distinct"] = len(set(run.samples))
        row |= {"n": n, "rows": stats.network_rows, "calls": stats.reward_calls}
        row |= {"rows_each": stats.network_rows / n, "calls_each": stats.reward_calls / n}
        row |= {"seconds": seconds, "clock": stats.seconds["total"]}
        return [row | {name: score(run) for name, score in measures.items()}]

    return measure


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The 10, 50 and 90 % quantiles, the mean and the worst."""
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
    return {"low": low, "median": median, "high": high, "mean": float(np.mean(values)), "worst": min(values)}


def script(read: Callable[[Path], list[Row]]) -> Callable[[Settings, Path], list[Row]]:
    """Runs `settings["commands"]` in turn, as `benchmarks/lookahead.py -M 4 --json {out}/rows.json`.

    Each is what follows `python`, started in the repository. `{out}` is a folder, of which `read` makes rows at the
    end; a script that was interrupted finds it again. Words as `$OPTIMUS` are files that are not part of the
    repository, named by variables of the environment.
    """

    def measure(settings: Settings, work: Path) -> list[Row]:
        work.mkdir(parents=True, exist_ok=True)
        for command in settings["commands"]:
            _run(os.path.expandvars(command.replace("{out}", shlex.quote(str(work)))))
        return read(work)

    return measure


def _run(command: str) -> None:
    if unknown := re.findall(r"\$\w+", command):
        raise Missing(f"{', '.join(unknown)} is not set: it names a file that `python {command}` reads")
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, *shlex.split(command)], cwd=ROOT, env=os.environ | path, check=False)
    if done.returncode:
        raise Missing(f"`python {command}` ended with {done.returncode}")
