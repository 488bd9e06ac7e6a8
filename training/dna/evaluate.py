r"""Judges samples of the DNA and RNA models by comparing them with sequences that were held out of training.

    python -m training.dna.evaluate dna --guidance 1.5
    python -m training.dna.evaluate rna --human human_utr.tsv.gz

For each label: correlation of 3-mer and 6-mer frequencies with the held-out sequences, GC content, hits of the cell
type's known factors (JASPAR, p < 1e-4) in samples and in held-out sequences, and the similarity to the closest training
sequence, as the share of equal positions on either strand, with that of held-out sequences for comparison. For DNA also
the area under the ROC curve with which the judging oracle, trained on real sequences, predicts the label of samples.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray

import guided
from guided.metrics.kmers import correlation, kmer_frequencies
from guided.rewards.sequences.activity import CELLS
from guided.rewards.sequences.motifs import motif_count
from guided.rewards.sequences.oracle import log_odds
from training.dna import train as dna
from training.dna.oracle import areas
from training.nucleotides import Dataset
from training.rna import train as rna

HERE = Path(__file__).parents[1]
FACTORS = {"HepG2": ("HNF4A", "HNF1A"), "K562": ("GATA1::TAL1",), "GM12878": ("SPI1",), "hESC": ("POU5F1::SOX2",)}


def gc(sequences: list[str]) -> list[float]:
    """The 5 %, 50 % and 95 % quantiles of the share of G and C."""
    shares = [(s.count("G") + s.count("C")) / len(s) for s in sequences]
    return [round(float(q), 3) for q in np.quantile(shares, (0.05, 0.5, 0.95))]


def nearest(sequences: list[str], training: torch.Tensor) -> NDArray[np.float64]:
    """The share of equal positions with the closest training sequence on either strand, with shape `(n,)`."""
    codes = Dataset([s.replace("U", "T") for s in sequences], np.zeros(len(sequences), dtype=np.int64)).tokens
    hot = torch.nn.functional.one_hot(codes, 4).flatten(1).bfloat16()
    best = torch.zeros(len(codes))
    for part in training.split(4096):
        for strand in (part, 3 - part.flip(1)):
            theirs = torch.nn.functional.one_hot(strand, 4).flatten(1).bfloat16()
            best = torch.maximum(best, (hot @ theirs.T).float().amax(1))
    return (best / codes.shape[1]).double().numpy()


def quantiles(values: NDArray[np.float64]) -> list[float]:
    """The median, the 99 % quantile and the maximum."""
    return [round(float(q), 3) for q in np.quantile(values, (0.5, 0.99, 1.0))]


def judge(sequences: list[str], real: list[str], training: torch.Tensor, factors: tuple[str, ...]) -> dict[str, Any]:
    """The measures of one label."""
    found: dict[str, Any] = {f"r{k}": correlate(sequences, real, k) for k in (3, 6)}
    found["gc"], found["gc_real"] = gc(sequences), gc(real)
    found["distinct"] = len(set(sequences)) / len(sequences)
    found["nearest"], found["nearest_real"] = (quantiles(nearest(part, training)) for part in (sequences, real))
    for factor in factors:
        hits = [float(np.mean(motif_count(part, factor))) for part in (sequences, real)]
        found[factor] = [round(hit, 3) for hit in hits]
    return found


def correlate(sequences: list[str], real: list[str], k: int) -> float:
    """Pearson's correlation of the k-mer frequencies."""
    both = "U" not in sequences[0]  # strands; RNA has one
    return round(correlation(kmer_frequencies(sequences, k, both), kmer_frequencies(real, k, both)), 4)


def main(
    model: str,
    n: int = 2000,
    guidance: float | None = None,
    steps: int | None = None,
    temperature: float | None = None,
    human: Path | None = None,
    work: Path = HERE / "work",
    path: Path | None = None,
    out: Path | None = None,
) -> None:
    """Draws n samples of each label and prints their measures."""
    if model == "dna":
        data, chromosomes = dna.read(work)
        held_out = np.array([c in dna.HELD_OUT for c in chromosomes])
    else:
        data, held_out = rna.read(work, human)
    labels = {"dna": CELLS, "rna": rna.SPECIES}[model]
    training, loaded = data.select(~held_out).tokens, guided.load(path or model, dtype="bfloat16", steps=steps)
    if temperature is not None:
        loaded = replace(loaded, process=replace(cast("Any", loaded.process), temperature=temperature))
    report: dict[str, Any] = {"n": n, "guidance": guidance, "steps": loaded.steps, "temperature": temperature}
    drawn: list[str] = []
    natural = [s for s, out_of_it in zip(data.sequences, held_out, strict=True) if out_of_it]
    for i, label in enumerate(labels, 1):
        run = guided.sample(loaded, sampler="unguided", n=n, prompt=label, guidance=guidance, batch_size=250, seed=i)
        real = [s for s, mine in zip(data.sequences, held_out & (data.labels == i), strict=True) if mine]
        report[label] = judge(list(run.samples), real, training, FACTORS.get(label, ()))
        seen = np.flatnonzero(~held_out & (data.labels == i))
        some = [data.sequences[j] for j in np.random.default_rng(0).permutation(seen)[:n]]
        report[label]["r6_real"] = correlate(some, real, 6)  # as near as so many sequences of the data come
        drawn += run.samples
        print(label, json.dumps(report[label]), flush=True)
    report["all"] = {f"r{k}": correlate(drawn, natural, k) for k in (3, 6)}
    print("all", json.dumps(report["all"]))
    if model == "dna":
        logits = torch.cat([log_odds(drawn[j : j + 500], "judge") for j in range(0, len(drawn), 500)])
        report["auc"] = areas(logits, torch.arange(len(CELLS)).repeat_interleave(n))
        print("auc", json.dumps(report["auc"]))
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
