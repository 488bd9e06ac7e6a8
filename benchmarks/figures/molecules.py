"""Molecules: SVDD beside the model alone and the best of ten, and how near the models are to their data."""

__all__ = ["TABLES"]

import statistics
from pathlib import Path

from benchmarks.figures.draw import drawn, script
from benchmarks.figures.recipe import Measurement, Row, Table
from guided import Run
from guided.rewards.molecules.properties import sa
from guided.storage import read_json


def median_sa(run: Run) -> float:
    """Synthetic accessibility, 1 (easy) to 10 (hard)."""
    return statistics.median(sa(run.samples))


QED = {"model": "molecules", "reward": "qed", "n": 256, "steps": 64, "seed": 0}
SVDD = Measurement(
    "molecules_svdd",
    ("molecules",),
    {
        "unguided": {**QED, "sampler": "unguided"},
        "best of 10": {**QED, "sampler": {"name": "best-of-n", "N": 10}},
        "SVDD, M = 10": {**QED, "sampler": {"name": "svdd", "M": 10}},
        "SVDD, M = 20": {**QED, "sampler": {"name": "svdd", "M": 20}},
        "SVDD, M = 25": {**QED, "sampler": {"name": "svdd", "M": 25}},
        "SVDD, M = 10, `draws=4`": {**QED, "sampler": {"name": "svdd", "M": 10}, "draws": 4, "n": 64, "seed": 1},
    },
    drawn(sa=median_sa),
    minutes=5,
)


def metrics_of(model: str) -> list[Row]:
    """The measures of MOSES, as `training.molecules.evaluate` has written them beside the card."""
    found = read_json(Path("guided/checkpoints", model, "metrics.json"))
    return [{"label": name, **found.pop(name)} for name in ("QED", "SA")] + [{"label": "all", **found}]


def moses(model: str) -> Measurement:
    """10,000 unguided samples against the test split of MOSES."""
    drawn = f"-m guided sample {model} --sampler unguided -n 10000 --batch-size 500 --no-report --out {{out}}/own"
    judged = f"-m training.molecules.evaluate {{out}}/own/samples.csv --out guided/checkpoints/{model}/metrics.json"
    runs = {"10,000 samples": {"commands": [drawn, judged]}}
    return Measurement(f"{model}_moses", (model,), runs, script(lambda _: metrics_of(model)), minutes=25)


SETS = {
    "validity": "{validity:.3f}",
    "unique@1k": "{unique@1k:.3f}",
    "unique@10k": "{unique@10k:.3f}",
    "novelty": "{novelty:.3f}",
    "IntDiv1": "{internal_diversity_1:.3f}",
    "FCD (to 30,000 of the test split)": "{fcd:.3g}",
    "rings by size, sum of differences": "{ring_sizes_distance:.3f}",
}
PROPERTIES = {
    "": "{label}",
    "samples, mean ± sd": "{mean:#.3g} ± {sd:#.2g}",
    "test split, mean ± sd": "{test_mean:#.3g} ± {test_sd:#.2g}",
    "Wasserstein-1 distance": "{wasserstein_1:.3f}",
}
MOSES, FORMER = moses("molecules"), moses("molecules_selfies")

TABLES = (
    Table(
        SVDD,
        {
            "": "{label}",
            "samples": "{n}",
            "median QED": "{median:.3f}",
            "median SA": "{sa:.2f}",
            "distinct": "{distinct}",
            "network rows a sample": "{rows_each:,.0f}",
            "reward calls a sample": "{calls_each:,.0f}",
            "processor seconds in all": "{seconds:,.0f}",
        },
    ),
    *(Table(one, SETS, entry="validity") for one in (MOSES, FORMER)),
    *(Table(one, PROPERTIES, entry="wasserstein_1", name=f"{one.name}_properties") for one in (MOSES, FORMER)),
)
