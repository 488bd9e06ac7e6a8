"""The measured numbers in docs/measured, where they come from, and whether they are stale."""

__all__ = ["MEASURED", "NEW", "Found", "fingerprint", "load", "now", "run", "stale", "weights_of"]

import hashlib
import json
import platform
import re
import shutil
import time
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures.recipe import Measurement
from guided.errors import GuidedError
from guided.storage import digest_of, read_json, write_whole

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "docs" / "measured"
NEW = "not measured"
Found = dict[str, Any]  # of a run: settings, weights, date, device, torch, minutes, rows


@lru_cache
def fingerprint(model: str) -> str:
    """12 characters of the sha256 of all weights of a folder in `guided/checkpoints`, by their paths in order.

    Raises:
        GuidedError: There are none.
    """
    folder = ROOT / "guided" / "checkpoints" / model
    if not (paths := sorted(folder.rglob("*.safetensors"))):
        raise GuidedError(f"{str(folder)!r} has no weights")
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def weights_of(measurement: Measurement, label: str) -> dict[str, str]:
    """The fingerprints of a run's weights today."""
    return {model: fingerprint(model) for model in measurement.weights_of(label)}


def load(measurement: Measurement) -> dict[str, Found]:
    """What has been measured, by the labels of its runs, in their order."""
    path = MEASURED / f"{measurement.name}.json"
    found = read_json(path) if path.exists() else {}
    return {label: found[label] for label in measurement.runs if label in found}


def stale(measurement: Measurement, label: str, found: Found | None) -> str:
    """Why a run is to be measured, again or at all; empty if it need not be."""
    if found is None:
        return NEW
    before, settings = found["settings"], json.loads(json.dumps(measurement.runs[label]))
    today = weights_of(measurement, label)
    weights = [model for model in today if found["weights"].get(model) != today[model]]
    keys = [key for key in {**settings, **before} if before.get(key) != settings.get(key)]
    parts = [f"other weights of {' and '.join(weights)}"] if weights else []
    parts += [f"other settings: {' and '.join(keys)}"] if keys else []
    return ", ".join(parts)


def run(measurement: Measurement, label: str) -> Found:
    """Measures a run and saves its numbers beside those of the others."""
    settings = measurement.runs[label]
    found: Found = {"settings": settings, "weights": weights_of(measurement, label), **now()}
    work = ROOT / "runs" / "figures" / digest_of(f"{measurement.name} {label} {found['settings']} {found['weights']}")
    start = time.perf_counter()
    rows = measurement.measure(settings, work)
    found |= {"minutes": round((time.perf_counter() - start) / 60, 2), "rows": [rounded(row) for row in rows]}
    all_runs = {**load(measurement), label: found}
    ordered = {name: all_runs[name] for name in measurement.runs if name in all_runs}
    write_whole(MEASURED / f"{measurement.name}.json", as_json(ordered))
    shutil.rmtree(work, ignore_errors=True)
    return found


def now() -> dict[str, str]:
    """The date, the device and the version of torch."""
    return {"date": date.today().isoformat(), "device": device(), "torch": torch.__version__}


def device() -> str:
    """The name of the GPU, or that of the processor with the number of threads that torch uses."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    threads = torch.get_num_threads()
    shown = re.sub(r"\(R\)|\(TM\)", "", name[1]) if name else platform.machine()
    return f"{shown}, {threads} thread" + "s" * (threads > 1)


def rounded(value: Any) -> Any:
    """Numbers with six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list | tuple) else value


def as_json(runs: dict[str, Found]) -> str:
    """A line for each row and each other entry, so that a diff shows what has changed."""
    line: Callable[[Any], str] = lambda value: json.dumps(value, ensure_ascii=False)  # noqa: E731
    parts = []
    for label, found in runs.items():
        entries = [f"    {line(key)}: {line(value)}" for key, value in found.items() if key != "rows"]
        rows = ",\n".join(f"      {line(row)}" for row in found["rows"])
        parts.append(f"  {line(label)}: {{\n" + ",\n".join([*entries, f'    "rows": [\n{rows}\n    ]']) + "\n  }")
    return "{\n" + ",\n".join(parts) + "\n}\n"
