r"""How the shipped DNA model was made: masked diffusion over A, C, G, T with the cell type as label.

    python -m training.dna.train train --minutes 90   # downloads by pip; resumes where it was stopped
    python -m training.dna.train export               # the averaged weights, into guided/checkpoints/dna

The data are the 47,872 human DNase-hypersensitive sequences of 200 bp that DNA-Diffusion was trained on, 11,968 of each
cell type; chromosomes 1 and 2 are held out.

References:
    | DNA-Diffusion: Leveraging Generative Models for Controlling Chromatin Accessibility and Gene Expression via
    | Synthetic Regulatory Elements (DaSilva et al., 2024), https://doi.org/10.1101/2024.02.01.578352
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import typer
from safetensors.numpy import save_file

from guided.metrics.kmers import kmer_frequencies
from guided.rewards.sequences.activity import CELLS
from training.nucleotides import Dataset, Plan, export, fit

HERE = Path(__file__).parents[1]
CHECKPOINT = HERE.parent / "guided" / "checkpoints" / "dna"
FILE = "dnadiffusion/data/K562_hESCT0_HepG2_GM12878_12k_sequences_per_group.txt"
CONFIG = {
    "alphabet": "ACGT",
    "length": 200,
    "labels": ["none", *CELLS],
    "width": 96,
    "kernel": 7,
    "dilations": [1, 1, 2, 4, 8, 16, 1],
    "steps": 128,
}
HELD_OUT = ("chr1", "chr2")
app = typer.Typer(add_completion=False, help=__doc__.splitlines()[0], pretty_exceptions_enable=False)


def read(work: Path = HERE / "work") -> tuple[Dataset, list[str]]:
    """The sequences, labelled 1 to 4 in the order of `CELLS`, and the chromosome of each."""
    wheel = work / "dnadiffusion-0.0.0.dev0-py3-none-any.whl"
    if not wheel.exists():
        work.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(work), "dnadiffusion==0.0.0.dev0"]
        subprocess.run(pip, check=True)
    header, *rows = zipfile.ZipFile(wheel).read(FILE).decode().splitlines()
    place = {name: i for i, name in enumerate(header.split("\t"))}
    table = [row.split("\t") for row in rows]
    names = [row[place["TAG"]].replace("hESCT0", "hESC").split("_")[0] for row in table]
    labels = np.array([1 + CELLS.index(name) for name in names], dtype=np.int64)
    return Dataset([row[place["sequence"]] for row in table], labels), [row[place["chr"]] for row in table]


@app.command("train")
def _train(
    work: Path = HERE / "work",
    minutes: float = 90.0,
    batch: int = 128,
    lr: float = 2e-3,
    unlabelled: float = 0.15,
    device: str = "cpu",
    accumulate: int = 1,
    compiled: bool = False,
) -> None:
    """Trains for a number of minutes, over all sessions; the state is saved every minute into `dna/`."""
    data, chromosomes = read(work)
    kept = np.array([chromosome not in HELD_OUT for chromosome in chromosomes])
    plan = Plan(minutes, batch, lr, unlabelled, device=device, accumulate=accumulate, compiled=compiled)
    fit(data.select(kept), CONFIG, work / "dna", plan)


@app.command("export")
def _export(work: Path = HERE / "work", out: Path = CHECKPOINT) -> None:
    """Writes the averaged weights, in half precision, the configuration, and the 3-mers of the held-out sequences."""
    export(CONFIG, work / "dna", out)
    data, chromosomes = read(work)
    held_out = np.array([chromosome in HELD_OUT for chromosome in chromosomes])
    kmers = {}
    for i, cell in enumerate(CELLS, 1):
        kmers[cell] = kmer_frequencies(data.select(held_out & (data.labels == i)).sequences, 3)
    save_file(kmers, out / "kmers.safetensors")


if __name__ == "__main__":
    app()
