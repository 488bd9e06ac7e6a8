"""How DNA is judged: by held-out real sequences, and by an oracle that is not used for guidance.

`6-mer r` is Pearson's correlation of 6-mer frequencies, both strands, with the held-out sequences of the same cell
type, lower for few samples; `AUC` the area under the curve with which the judging oracle separates the cell type of
samples from the other three; `sites` the hits of the cell type's known factors (JASPAR, p < 1e-4) a sequence, best
where real sequences have them. Each is a mean over the cell types; the measures of each cell type follow. Imported
by npo.py; it does nothing by itself.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from npo_task import Metric, Task

from guided.core.diffusion import Diffusion
from guided.errors import GuidedError
from guided.metrics.kmers import correlation, kmer_frequencies
from guided.rewards.sequences.activity import CELLS
from guided.rewards.sequences.motifs import motif_count
from guided.rewards.sequences.oracle import log_odds
from training.dna import train as dna
from training.dna.evaluate import FACTORS
from training.dna.oracle import areas


def dna_task(model: Diffusion, each: int, work: Path) -> Task:
    """The task for so many sequences of each cell type.

    Raises:
        GuidedError: The model is not one of DNA with these cell types, or the real sequences cannot be downloaded.
    """
    if model.modality != "dna" or not set(CELLS) <= set(model.prompting.examples):
        raise GuidedError(f"{model.name!r} is no model of DNA whose prompts are {', '.join(CELLS)}")
    real = held_out(work)
    natural = {cell: kmer_frequencies(sequences, 6, True) for cell, sequences in real.items()}
    known = {f"sites {cell}": sites(sequences, cell) for cell, sequences in real.items()}
    known["sites"] = float(np.mean([*known.values()]))

    def measure(samples: list[str]) -> Mapping[str, float]:
        parts = {cell: samples[i * each : (i + 1) * each] for i, cell in enumerate(CELLS)}
        logits = torch.cat([log_odds(samples[j : j + 500], "judge") for j in range(0, len(samples), 500)])
        found = {
            "6-mer r": {
                cell: correlation(kmer_frequencies(part, 6, True), natural[cell]) for cell, part in parts.items()
            },
            "AUC": areas(logits, torch.arange(len(CELLS)).repeat_interleave(each)),
            "sites": {cell: sites(part, cell) for cell, part in parts.items()},
        }
        means = {name: float(np.mean([*by_cell.values()])) for name, by_cell in found.items()}
        return means | {f"{name} {cell}": by_cell[cell] for name, by_cell in found.items() for cell in CELLS}

    metrics = [Metric("6-mer r"), Metric("AUC"), Metric("sites", known["sites"])]
    for name in ("6-mer r", "AUC"):
        metrics += [Metric(f"{name} {cell}", shown=False) for cell in CELLS]
    metrics += [Metric(f"sites {cell}", known[f"sites {cell}"], shown=False) for cell in CELLS]
    prompts = [cell for cell in CELLS for _ in range(each)]
    return Task("dna", metrics, measure, prompts, judge={"oracle": "judge", "factors": FACTORS}, reference=known)


def held_out(work: Path) -> dict[str, list[str]]:
    """The sequences of each cell type on the chromosomes that were kept out; downloaded by pip if they are missing.

    Raises:
        GuidedError: They cannot be fetched.
    """
    try:
        data, chromosomes = dna.read(work)
    except subprocess.CalledProcessError as error:
        raise GuidedError(
            f"the real sequences are not in {str(work)!r} and cannot be fetched: "
            f"pip download --no-deps -d {work} dnadiffusion==0.0.0.dev0"
        ) from error
    kept = np.array([chromosome in dna.HELD_OUT for chromosome in chromosomes])
    parts = {cell: data.select(kept & (data.labels == i)) for i, cell in enumerate(dna.CELLS, 1)}
    return {cell: list(parts[cell].sequences) for cell in CELLS}


def sites(sequences: list[str], cell: str) -> float:
    """The sites of the cell type's factors in a sequence, on average."""
    return float(
        np.mean([np.sum(hits) for hits in zip(*(motif_count(sequences, f) for f in FACTORS[cell]), strict=True)])
    )
