"""Designs of DNA and RNA by the examples, and how natural the models' own samples are."""

__all__ = ["TABLES"]

import csv
from pathlib import Path

from benchmarks.figures.draw import script
from benchmarks.figures.recipe import Measurement, Row, Table
from guided.storage import read_json


def table_of(folder: Path) -> list[Row]:
    """The rows of an example's `table.csv`."""
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{"label": row.pop("sampler"), **{key: float(value) for key, value in row.items()}} for row in rows]


def labels_of(report: Path) -> list[Row]:
    """A row for each label of `training.dna.evaluate`, and one for all."""
    found = read_json(report)
    areas = found.get("auc") or {}
    rows = [{"label": label, **entry} for label, entry in found.items() if isinstance(entry, dict) and label != "auc"]
    return [{**row, "auc": areas.get(row["label"])} for row in rows]


def hits(row: Row) -> str:
    """Sites of the cell type's own factors in samples, and after a slash in real sequences."""
    found = {key: value for key, value in row.items() if key.isupper() or "::" in key}
    return "; ".join(f"{factor} {ours:.2f} / {real:.2f}" for factor, (ours, real) in found.items())


EXAMPLE = "--updates 2500 --out {out}"
DNA = Measurement(
    "dna_samplers",
    ("dna", "dna_oracle"),
    {"HepG2": {"commands": [f"examples/dna.py --n 64 --rollouts 2944 {EXAMPLE}"]}},
    script(table_of),
    minutes=60,
)
RNA = Measurement(
    "rna_samplers",
    ("rna",),
    {"human": {"commands": [f"examples/rna.py --weights $OPTIMUS --n 256 --rollouts 5000 {EXAMPLE}"]}},
    script(table_of),
    minutes=8,
)

EVALUATE = "-m training.dna.evaluate"
DNA_CARD = "guided/checkpoints/dna/metrics.json"
DNA_MODEL = Measurement(
    "dna_model",
    ("dna", "dna_oracle"),
    {"dna": {"commands": [f"{EVALUATE} dna --n 1000 --guidance 1.5 --steps 64 --out {DNA_CARD}"]}},
    script(lambda _: labels_of(Path(DNA_CARD))),
    minutes=120,
)
RNA_MODEL = Measurement(
    "rna_model",
    ("rna",),
    {"rna": {"commands": [f"{EVALUATE} rna --n 1000 --human $UTRS --out {{out}}/metrics.json"]}},
    script(lambda out: labels_of(out / "metrics.json")[:-1]),
    minutes=5,
)

REWARD = "{reward:.2f} ({reward low:.2f}, {reward high:.2f})"
WORDS = {"3-mer r": "{3-mer r:.3f}", "log p": "{log p:.1f}"}
COSTS = {"distinct": "{distinct:.0f}", "network rows": "{network_rows:,.0f}", "seconds": "{seconds:,.0f}"}
TABLES = (
    Table(
        DNA,
        {"": "{label}", "guide": REWARD, "judge": REWARD.replace("reward", "judge"), **WORDS, **COSTS},
    ),
    Table(RNA, {"": "{label}", "MRL": REWARD, **WORDS, **COSTS}),
    Table(
        DNA_MODEL,
        {
            "": "{label}",
            "3-mer r": "{r3:.3f}",
            "6-mer r": lambda row: f"{row['r6']:.3f}" + (f" / {row['r6_real']:.3f}" if "r6_real" in row else ""),
            "G and C, median": "{gc[1]:.3f} / {gc_real[1]:.3f}",
            "hits": hits,
            "nearest": "{nearest[0]:.3f}, {nearest[2]:.3f} / {nearest_real[0]:.3f}, {nearest_real[2]:.3f}",
            "AUC": "{auc:.3f}",
        },
    ),
    Table(
        RNA_MODEL,
        {
            "": "{label}",
            "3-mer r": "{r3:.3f}",
            "6-mer r": "{r6:.3f}",
            "G and C: samples, kept out (median)": "{gc[1]:.2f}, {gc_real[1]:.2f}",
            "distinct": "{distinct:.0%}",
            "equal positions with the closest training UTR: samples, kept out (median)": (
                "{nearest[0]:.2f}, {nearest_real[0]:.2f}"
            ),
        },
    ),
)
