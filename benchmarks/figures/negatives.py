"""Negative checkpoints beside classifier-free guidance and plain sampling, by benchmarks/npo.py."""

__all__ = ["TABLES"]

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures.draw import script
from benchmarks.figures.recipe import Measurement, Row, Table
from guided.storage import read_json

LABELS = {
    "accuracy": "category recognised by the classifier",
    "Fréchet": "Fréchet distance in its features",
    "PIQE": "PIQE",
    "category": "log-probability of the category",
    "FCD": "Fréchet ChemNet distance",
    "QED": "QED",
    "SA": "SA",
    "diversity": "diversity",
    "6-mer r": "6-mer r to real sequences",
    "AUC": "AUC of the cell type by the judging oracle",
    "sites": "binding sites of the type in a sequence",
}
ARMS = {"plain": "plain", "plain, K doubled": "plain, twice the rows", "CFG": "CFG", "NPO": "NPO"}


def best_of(out: Path) -> list[Row]:
    """A row for each measure, with every arm at its best weight: `weight`, `mean`, and `half` of the interval."""
    found = read_json(out / "results.json")
    summary = found["results"]["summary"]
    best = summary["best"]
    rows = {arm["method"]: {"mean": arm["network_rows"] / found["n"]} for arm in summary["arms"]}
    measures = [{"label": label, **best[measure]} for measure, label in LABELS.items() if measure in best]
    return [*measures, {"label": "network rows a sample", **rows}]


def shown(arm: str) -> Callable[[Row], str]:
    """A column: mean ± half of the 95 % interval, and the weight in brackets."""

    def text(row: Row) -> str:
        value: Mapping[str, Any] = row[arm]
        half = "" if value.get("half") is None else f" ± {value['half']:.2g}"
        weight = f" ({value['weight']:g})" if arm in ("CFG", "NPO") and "weight" in value else ""
        return f"{value['mean']:#.3g}{half}{weight}"

    return text


def compared(model: str, options: str, minutes: float) -> Measurement:
    """A run of the benchmark."""
    command = f"benchmarks/npo.py {model} {options} --out {{out}}/results.json"
    weights = (model, f"negatives/{model}")
    return Measurement(f"npo_{model}", weights, {options: {"commands": [command]}}, script(best_of), minutes)


IMAGES = compared("images", "--weights 3 --n 96 --steps 25 --seeds 2", 60)
MOLECULES = compared("molecules", "--weights 1.5,4 --n 500 --reference 10000 --seeds 3", 60)
DNA = compared("dna", "--weights 1.5 --n 120 --steps 16 --dtype bfloat16 --seeds 2", 60)


def table(measurement: Measurement, *arms: str) -> Table:
    """The arms beside one another."""
    heads = {head: shown(arm) for head, arm in ARMS.items() if arm in arms}
    return Table(measurement, {"": "{label}", **heads, "NPO less the other": shown("difference")})


TABLES = (
    table(IMAGES, "plain", "CFG", "NPO"),
    table(MOLECULES, "plain", "plain, twice the rows", "NPO"),
    table(DNA, "plain", "CFG", "NPO"),
)
