r"""How the shipped DNA model was made: masked diffusion over A, C, G, T with the cell type as label.

    python -m training.dna.train prepare              # downloads by pip, and packs the sequences into dna.npz
    python -m training.dna.train train --minutes 90   # resumes where it was stopped
    python -m training.dna.train export               # the averaged weights, into guided/checkpoints/dna

On a GPU, also with a larger network, beside the first one:

    python -m training.dna.train train --device cuda --minutes 17 --dropout 0.1 --decay 0.01
    python -m training.dna.train train --device cuda --minutes 17 --dropout 0.2 --decay 0.05 --name dna_large \
        --width 128 --dilations 1,1,2,4,8,16,32,1,2,1

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
from typing import Annotated, Any

import numpy as np
import typer
from safetensors.numpy import save_file

from guided.metrics.kmers import kmer_frequencies
from guided.rewards.sequences.activity import CELLS
from training.nucleotides import Dataset, Plan, export, fit, numbers

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
PACKED = "dna.npz"
app = typer.Typer(add_completion=False, help=__doc__.splitlines()[0], pretty_exceptions_enable=False)


def read(work: Path = HERE / "work") -> tuple[Dataset, list[str]]:
    """The sequences, labelled 1 to 4 in the order of `CELLS`, and the chromosome of each.

    They are read from the file of `prepare` if it is there, else from the wheel, which is downloaded.
    """
    if not (work / PACKED).exists():
        return _download(work)
    with np.load(work / PACKED) as packed:
        rows, labels, names, chromosome = (packed[name] for name in ("tokens", "labels", "names", "chromosome"))
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)[rows]
    return Dataset([row.tobytes().decode() for row in letters], labels.astype(np.int64)), names[chromosome].tolist()


def pack(data: Dataset, chromosomes: list[str], file: Path) -> None:
    """Writes the sequences as tokens, their labels and their chromosomes, compressed."""
    names, chromosome = np.unique(chromosomes, return_inverse=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        file,
        tokens=data.tokens.numpy().astype(np.uint8),
        labels=data.labels.astype(np.uint8),
        names=names,
        chromosome=chromosome.astype(np.uint8),
    )


def _download(work: Path) -> tuple[Dataset, list[str]]:
    """What `read` returns, out of the wheel that PyPI serves."""
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


@app.command()
def prepare(work: Path = HERE / "work") -> None:
    """Downloads the sequences by pip and packs them into one file, `dna.npz`, which is all that a training reads."""
    data, chromosomes = _download(work)
    pack(data, chromosomes, work / PACKED)
    held_out = sum(chromosome in HELD_OUT for chromosome in chromosomes)
    size = (work / PACKED).stat().st_size / 2**20
    print(f"{len(chromosomes) - held_out} sequences to learn from, {held_out} held out; {size:.1f} MiB")


@app.command("train")
def _train(
    work: Path = HERE / "work",
    name: str = "dna",
    minutes: float = 90.0,
    batch: int | None = None,
    lr: float | None = None,
    width: int = 96,
    dilations: str = "1,1,2,4,8,16,1",
    dropout: Annotated[float, typer.Option(min=0.0, max=0.9)] = 0.0,
    decay: Annotated[float, typer.Option(min=0.0)] = 0.0,
    unlabelled: float = 0.15,
    device: str = "cpu",
    accumulate: int = 1,
    compiled: bool | None = None,
) -> None:
    """Trains for a number of minutes, over all sessions; the state is saved every minute into a folder `name`.

    The loss on chromosomes 1 and 2 is printed every minute, and the averaged weights with the best one are exported.
    Batch, learning rate and compilation follow the device where they are not given.
    """
    data, chromosomes = read(work)
    held_out = np.array([chromosome in HELD_OUT for chromosome in chromosomes])
    config: dict[str, Any] = {**CONFIG, "width": width, "dilations": numbers(dilations), "dropout": dropout}
    plan = Plan(minutes, batch, lr, unlabelled, device=device, accumulate=accumulate, compiled=compiled, decay=decay)
    fit(data.select(~held_out), config, work / name, plan, data.select(held_out))


@app.command("export")
def _export(work: Path = HERE / "work", name: str = "dna", out: Path = CHECKPOINT) -> None:
    """Writes the averaged weights, in half precision, the configuration, and the 3-mers of the held-out sequences."""
    export(CONFIG, work / name, out)
    data, chromosomes = read(work)
    held_out = np.array([chromosome in HELD_OUT for chromosome in chromosomes])
    kmers = {}
    for i, cell in enumerate(CELLS, 1):
        kmers[cell] = kmer_frequencies(data.select(held_out & (data.labels == i)).sequences, 3)
    save_file(kmers, out / "kmers.safetensors")


if __name__ == "__main__":
    app()
