"""Samplers beside one another: searches of molecules, gradients and natural words in DNA."""

__all__ = ["TABLES"]

import statistics

from safetensors.numpy import load_file

from benchmarks.figures.draw import drawn
from benchmarks.figures.measured import ROOT
from benchmarks.figures.recipe import Measurement, Table
from guided import Run, correlation, kmer_frequencies
from guided.rewards.sequences.activity import activity


def judge(run: Run) -> float:
    """The median activity in HepG2 by the oracle that does not guide."""
    return statistics.median(activity(list(run.samples), "HepG2", "judge"))


def natural(run: Run) -> float:
    """The correlation of 3-mers with those of real HepG2 sites of held-out chromosomes."""
    real = load_file(ROOT / "guided" / "checkpoints" / "dna" / "kmers.safetensors")["HepG2"]
    return correlation(kmer_frequencies(run.samples, 3), real)


HUNDRED = {"model": "molecules", "reward": "qed", "n": 32, "steps": 32, "seed": 0, "budget_calls": 100}
SEARCHES = Measurement(
    "samplers_searches",
    ("molecules",),
    {
        "`svdd`, M = 25": {**HUNDRED, "sampler": {"name": "svdd", "M": 25}},
        "`rollover`, M = 25": {**HUNDRED, "sampler": {"name": "rollover", "M": 25}},
        "`beam`, N = 4, M = 6": {**HUNDRED, "sampler": {"name": "beam", "N": 4, "M": 6}},
        "`block-best-of-n`, N = 12, blocks of 4": {
            **HUNDRED,
            "sampler": {"name": "block-best-of-n", "N": 12, "block": 4},
        },
        "`elite`, N = 10": {**HUNDRED, "sampler": {"name": "elite", "N": 10, "rounds": 1000}},
        "`tree`, every = 4": {**HUNDRED, "sampler": {"name": "tree", "N": 100, "every": 4}},
        "`noise-search`, N = 10": {**HUNDRED, "sampler": {"name": "noise-search", "N": 10, "rounds": 10}},
        "`best-of-n`": {**HUNDRED, "sampler": {"name": "best-of-n", "N": 100}},
    },
    drawn(),
)

HEPG2 = {"model": "dna", "reward": "activity", "prompt": "HepG2", "seed": 0}
SHORT = {**HEPG2, "n": 32, "steps": 16}
GRADIENTS = Measurement(
    "samplers_gradients",
    ("dna", "dna_oracle"),
    {
        "unguided": {**SHORT, "sampler": "unguided"},
        "`smc`, N = 4": {**SHORT, "sampler": {"name": "smc", "N": 4, "alpha": 0.5}},
        "`svdd`, M = 4": {**SHORT, "sampler": {"name": "svdd", "M": 4, "alpha": 0.5}},
        "`classifier-guidance`": {**SHORT, "sampler": {"name": "classifier-guidance", "alpha": 0.5}},
        "`tds`, N = 4": {**SHORT, "sampler": {"name": "tds", "N": 4, "alpha": 0.5}},
    },
    drawn(judge=judge),
)

LONG = {**HEPG2, "load": {"dtype": "bfloat16"}, "steps": 128, "sampler": {"name": "svdd", "M": 10}}
NATURAL = Measurement(
    "samplers_natural",
    ("dna", "dna_oracle"),
    {
        "`activity`, alpha 0": {**LONG, "n": 32},
        "`activity`, alpha 0.3": {**LONG, "n": 32, "sampler": {"name": "svdd", "M": 10, "alpha": 0.3}},
        **{
            f"with `natural_kmers?weight={w}`": {**LONG, "n": n, "reward": ["activity", f"natural_kmers?weight={w}"]}
            for w, n in ((6, 128), (7, 128), (10, 16))
        },
    },
    drawn(guide=lambda run: statistics.median(activity(list(run.samples), "HepG2")), judge=judge, natural=natural),
    minutes=20,
)

COSTS = {"network rows": "{rows_each:,.0f}", "reward calls": "{calls_each:,.0f}"}
TABLES = (
    Table(
        SEARCHES,
        {
            "sampler": "{label}",
            "mean": "{mean:.3f}",
            "worst": "{worst:.3f}",
            "calls": "{calls_each:.1f}",
            "network rows": "{rows_each:,.0f}",
            "processor seconds in all": "{seconds:,.0f}",
        },
    ),
    Table(GRADIENTS, {"sampler": "{label}", "activity": "{median:.2f}", "judge": "{judge:.2f}", **COSTS}),
    Table(
        NATURAL,
        {
            "": "{label}",
            "n": "{n}",
            "guide": "{guide:.2f}",
            "judge": "{judge:.2f}",
            "3-mer r": "{natural:.3f}",
            **COSTS,
        },
    ),
)
