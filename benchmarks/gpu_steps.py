"""Parts of `gpu.py`: steps of SVDD, what the host does in them, and runs with one process and two."""

__all__ = ["numbers", "processes", "steps"]

import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from gpu_common import Setting, counted, milliseconds

import guided
from guided.core.batching import distinct
from guided.core.diffusion import Diffusion
from guided.core.monitor import Monitor
from guided.core.random import Streams
from guided.samplers import SVDD
from guided.scoring.objective import Objective, resolve_reward
from guided.values.posterior_mean import PosteriorMean

M = 10


def steps(setting: Setting) -> Iterator[tuple[str, str]]:
    """Milliseconds of a step, the share in which the GPU has nothing to do, waits, copies and launches."""
    cases = [
        ("dna", "activity", 64, "float32", None),
        ("dna", "activity", 64, "bfloat16", None),
        ("images", "brightness", 16, "float32", None),
        ("images", "brightness", 16, "bfloat16", None),
        ("dna", "activity", 64, "bfloat16", "graph"),
        ("images", "brightness", 16, "bfloat16", "graph"),
        ("molecules", "qed", 64, "bfloat16", None),
        ("dna", "activity", 512, "bfloat16", None),
    ]
    for name, reward, B, dtype, how in [("dna", "activity", 4, "float32", None)] if setting.small else cases:
        K = 4 if setting.small else 16  # the profiler is slow with many events
        model = guided.load(name, device=str(setting.device), dtype=dtype, steps=K, compile=how)
        prompt = {"dna": "HepG2", "images": "red apple"}.get(name)
        model = model if prompt is None else model.prompted([prompt] * B)
        case = f"{name}, {reward}, B = {B}, M = {M}, {dtype}, {how or 'eager'}"
        yield case, _step(model, resolve_reward(reward), B, setting)


def _step(model: Diffusion, reward: Objective, B: int, setting: Setting) -> str:
    K = model.steps

    def run(seed: int = 0) -> None:
        reward.clear()
        fresh = model.with_requests(monitor=Monitor())
        with torch.no_grad():
            SVDD(M)(fresh, PosteriorMean(reward), Streams(seed, range(B), model.device))

    ms = milliseconds(run, setting, repeats=3) / K
    counts = counted(run, setting)
    if counts is None:
        return f"{ms:.2f} ms a step"
    idle = 1 - counts.kernels / K / ms
    each = [round(n / K, 1) for n in (counts.waits, counts.copies, counts.launches)]
    return f"{ms:.2f} ms a step, idle {idle:.0%}; {each[0]} waits, {each[1]} copies, {each[2]} launches a step"


def numbers(setting: Setting) -> Iterator[tuple[str, str]]:
    """Random numbers against numpy's, and the search for equal rows."""
    B, n = (4, 300) if setting.small else (512, 2000)
    there, here = (Streams(5, range(B), device) for device in (setting.device, torch.device("cpu")))
    same = all(torch.equal(there.uniform(n).cpu(), here.uniform(n)) for _ in range(2))
    gumbel = (there.gumbel(3) - here.gumbel(3)).abs().max().item()
    yield "uniform numbers equal numpy's to the bit", f"{same}; Gumbel numbers to {gumbel:.1e}"
    yield f"{B} x {n} uniform numbers", f"{milliseconds(lambda: there.uniform(n), setting):.3f} ms"
    pictures = Streams(5, range(2 if setting.small else 8), setting.device)
    shape = (2, 4, 8, 8) if setting.small else (10, 4, 64, 64)
    normal = milliseconds(lambda: pictures.normal(*shape), setting)
    yield f"normal numbers, {len(pictures)} x {shape}, drawn ahead or not", f"{normal:.2f} ms"
    rows = torch.randint(0, 4, (B * M, 200), device=setting.device)
    group = torch.arange(B * M, device=setting.device) // M
    yield f"equal rows of {B * M} x 200", f"{milliseconds(lambda: distinct(rows, group), setting):.3f} ms"


def processes(setting: Setting) -> Iterator[tuple[str, str]]:
    """The same run with one process and with two on one device: seconds, and whether the samples are the same."""
    device = "cuda:0" if setting.device.type == "cuda" else "cpu"
    n, K, size = (4, 4, 2) if setting.small else (512, 64, 128)
    with tempfile.TemporaryDirectory() as folder:
        texts, seconds = [], []
        for devices in (device, f"{device},{device}"):
            out = Path(folder) / str(len(texts))
            command = ["-m", "guided", "sample", "dna", "-r", "activity", "--prompt", "HepG2", "-M", str(M)]
            run = ["-n", str(n), "--steps", str(K), "--batch-size", str(size), "--no-report", "--out", str(out)]
            start = time.perf_counter()
            subprocess.run([sys.executable, *command, *run, "--devices", devices], check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
            with open(out / "samples.csv", newline="") as file:
                texts.append([row["sample"] for row in csv.DictReader(file)])
        equal = np.mean([a == b for a, b in zip(*texts, strict=True)])
        ratio = seconds[0] / seconds[1]
        yield (
            "one process, two processes on one device",
            (
                f"{seconds[0]:.1f} s, {seconds[1]:.1f} s: {ratio:.2f} times as fast, loading included; "
                f"{equal:.1%} of the samples are the same"
            ),
        )
