r"""Judges samples of the molecule model by comparing them with the test split of MOSES.

    guided sample molecules --sampler unguided -n 10000 --batch-size 500 --out runs/own
    python -m training.molecules.evaluate runs/own/samples.csv --out guided/checkpoints/molecules/metrics.json

What does not depend on the samples (ChemNet's statistics, QED, SA and rings of molecules of the test split) is
computed once and kept in the work folder. The distance of ring sizes is the sum, over the sizes, of the difference in
the mean number of rings of that size in a molecule. Novelty is with respect to the training split as MOSES wrote it:
only 1 in 5,000 of its SMILES differs from today's canonical form.

The Fréchet distance of finite samples is too large by about 1240 (1/n + 1/reference), measured: 10,000 random training
molecules have .161 to 30,000 of the test split, which is the best that 10,000 samples of any model can reach.
"""

import csv
import json
import os
import time
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from guided.metrics.molecules import (
    ChemNet,
    canonical,
    frechet_distance,
    internal_diversity,
    novelty,
    ring_sizes,
    unique,
)
from guided.rewards.molecules.properties import qed, sa
from training.molecules.train import read_smiles

HERE = Path(__file__).parents[1]
PROPERTIES = {"QED": qed, "SA": sa}
Properties = dict[str, NDArray[np.float64]]


def canonicals(smiles: list[str]) -> list[str | None]:
    """The canonical SMILES, None for invalid ones, on all cores."""
    with Pool() as pool:
        return pool.map(canonical, smiles, chunksize=500)


def properties(molecules: list[str]) -> Properties:
    """QED and SA of valid molecules, on all cores, each with shape `(n,)`."""
    chunks = [molecules[i : i + 200] for i in range(0, len(molecules), 200)]
    with Pool() as pool:
        return {name: np.concatenate(pool.map(score, chunks)) for name, score in PROPERTIES.items()}


def reference_set(work: Path, size: int) -> Properties:
    """ChemNet's `mean` and `covariance`, `QED`, `SA` and `rings` of random molecules of the test split (seed 0).

    `rings` is the mean number of rings of each size in a molecule.
    """
    path = work / f"reference_{size}_rings.npz"
    if not path.exists():
        smiles = read_smiles("test", work)
        chosen = np.random.default_rng(0).permutation(len(smiles))[:size]
        molecules = [molecule for molecule in canonicals([smiles[i] for i in chosen]) if molecule]
        mean, covariance = ChemNet().statistics(molecules)
        arrays: dict[str, Any] = {"mean": mean, "covariance": covariance, **properties(molecules)}
        arrays["rings"] = ring_sizes(molecules)
        np.savez(path, **arrays)
    with np.load(path) as file:
        return dict(file)


def compare(values: Properties, reference: Properties) -> dict[str, dict[str, float]]:
    """Mean, standard deviation and median of every property, and its Wasserstein-1 distance to the reference."""
    from scipy.stats import wasserstein_distance

    return {
        name: {
            "mean": values[name].mean(),
            "sd": values[name].std(),
            "median": float(np.median(values[name])),
            "test_mean": reference[name].mean(),
            "test_sd": reference[name].std(),
            "wasserstein_1": wasserstein_distance(values[name], reference[name]),
        }
        for name in PROPERTIES
    }


def draw(values: Properties, reference: Properties, path: Path) -> None:
    """Histograms of the properties, of the samples and of the test split."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), PROPERTIES, strict=True):
        bins = np.histogram_bin_edges(np.concatenate([values[name], reference[name]]), 60)
        axes.hist(reference[name], bins, density=True, alpha=0.45, color="0.5", label="MOSES test")
        axes.hist(values[name], bins, density=True, histtype="step", color="C0", linewidth=1.5, label="samples")
        axes.set(xlabel=name, ylabel="density")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def evaluate(samples: list[str], work: Path, size: int) -> tuple[dict[str, object], Properties, Properties]:
    """All metrics, with the properties of the samples and of the reference for the plot."""
    molecules = [molecule for molecule in canonicals(samples) if molecule]
    reference = reference_set(work, size)
    mean, covariance = ChemNet().statistics(molecules)
    values = properties(molecules)
    metrics: dict[str, object] = {
        "samples": len(samples),
        "validity": len(molecules) / len(samples),
        "unique@1k": unique(molecules, 1_000),
        "unique@10k": unique(molecules, 10_000),
        "novelty": novelty(molecules, read_smiles("train", work)),
        "internal_diversity_1": internal_diversity(molecules),
        "fcd": frechet_distance(mean, covariance, reference["mean"], reference["covariance"]),
        "ring_sizes_distance": float(np.abs(ring_sizes(molecules) - reference["rings"]).sum()),
        "reference": f"{len(reference['QED'])} random molecules of the MOSES test split (seed 0)",
        **compare(values, reference),
    }
    return metrics, values, reference


def read_samples(path: Path) -> list[str]:
    """One SMILES for each sample; an empty line of a plain file is an invalid one."""
    if path.suffix != ".csv":
        return path.read_text().removesuffix("\n").split("\n")
    with path.open(newline="") as file:
        return [row["sample"] for row in csv.DictReader(file)]


def main(
    samples: Path,
    work: Path = HERE / "work",
    out: Path = HERE / "work" / "metrics.json",
    reference: int = 30_000,
) -> None:
    """Judges a file with one SMILES per line, or the samples.csv of a run. Writes JSON and, beside it, a PNG."""
    started = time.monotonic()
    torch.set_num_threads(os.cpu_count() or 1)
    metrics, values, test = evaluate(read_samples(samples), work, reference)
    metrics["seconds"] = round(time.monotonic() - started, 1)
    out.write_text(json.dumps(metrics, indent=2) + "\n")
    draw(values, test, out.with_suffix(".png"))
    print(out.read_text(), end="")


if __name__ == "__main__":
    typer.run(main)
