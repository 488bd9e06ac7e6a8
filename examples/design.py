"""Shared by the examples of sequence design: samplers side by side, a table, a FASTA file, CSV files and a report.

Imported by dna.py and rna.py; it does nothing by itself.
"""

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import guided
from guided import Diffusion, correlation, kmer_frequencies, log_likelihood
from guided.errors import check_number
from guided.samplers import SVDD, BestOfN, Unguided


@dataclass
class Comparison:
    """The rows of a table: the samples of each sampler, their rewards and their cost.

    Args:
        model: The loaded model.
        reward: A reward, as `guided.sample` takes it.
        n: The number of samples of each sampler.
        out: The folder for the files.
        prompt: The prompt of all samples.
        judges: More scores of the samples, by column: functions of n sequences.
        natural: 3-mer frequencies to compare with, with shape `(64,)`; None for those of the first sampler.
        seed: The seed.
    """

    model: Diffusion
    reward: str
    n: int
    out: Path
    prompt: str
    judges: Mapping[str, Callable[[list[str]], Sequence[float]]] = field(default_factory=dict)
    natural: np.ndarray | None = None
    seed: int = 0
    rows: list[tuple[str, list[str], dict[str, list[float]]]] = field(default_factory=list)
    table: list[dict[str, object]] = field(default_factory=list)

    def header(self) -> None:
        """Prints the names of the columns."""
        print(f"{'':12}" + "".join(f"{name:>26}" for name in ("reward", *self.judges)), end="")
        print(f"{'3-mer r':>9}{'log p':>8}{'distinct':>10}{'network rows':>14}{'seconds':>9}")
        print(f"{'':12}" + f"{'median (10 %, 90 %)':>26}" * (1 + len(self.judges)), flush=True)

    def add(self, name: str, sampler: object, **options: object) -> None:
        """Draws with a sampler and prints its row; `out` and `report` are those of `guided.sample`."""
        run = guided.sample(
            self.model, self.reward, sampler, n=self.n, seed=self.seed, prompt=self.prompt, batch_size=64, **options
        )
        self.show(name, list(run.samples), run.rewards.tolist(), run.stats.network_rows, run.stats.seconds["total"])

    def show(self, name: str, samples: list[str], rewards: list[float], network_rows: int, seconds: float) -> None:
        """Keeps the samples and prints their row."""
        scores = {"reward": rewards}
        scores |= {judge: [float(r) for r in score(samples)] for judge, score in self.judges.items()}
        self.rows.append((name, samples, scores))
        r, log_p, distinct = self.likeness(samples), self.likelihood(samples), len(set(samples))
        print(f"{name:12}" + "".join(f"{quantiles(values):>26}" for values in scores.values()), end="")
        print(f"{r:9.3f}{log_p:8.1f}{distinct:10}{network_rows:14,}{seconds:9.0f}", flush=True)
        costs = {"distinct": distinct, "network_rows": network_rows, "seconds": seconds}
        medians = {judge: float(np.median(values)) for judge, values in scores.items()}
        lows = {f"{judge} low": float(np.quantile(values, 0.1)) for judge, values in scores.items()}
        highs = {f"{judge} high": float(np.quantile(values, 0.9)) for judge, values in scores.items()}
        self.table.append({"sampler": name, **medians, **lows, **highs, "3-mer r": r, "log p": log_p, **costs})

    def likeness(self, sequences: list[str]) -> float:
        """Correlation of 3-mer frequencies with the natural ones."""
        found = kmer_frequencies(sequences, 3)
        self.natural = found if self.natural is None else self.natural
        return correlation(found, self.natural)

    def likelihood(self, sequences: list[str]) -> float:
        """The median bound on the model's log-likelihood, in nats, of at most 64 of the sequences."""
        x = torch.stack([self.model.encode(s) for s in sequences[:64]])
        return float(log_likelihood(self.model.prompted([self.prompt] * len(x)), x, draws=16).median())

    def write(self) -> None:
        """The table as `table.csv`, all samples as `samples.csv`, those of the last sampler as `samples.fasta`."""
        with (self.out / "table.csv").open("w", newline="") as file:
            rows = csv.DictWriter(file, list(self.table[0]))
            rows.writeheader()
            rows.writerows(self.table)
        with (self.out / "samples.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sampler", "request", "sequence", "reward", *self.judges])
            for name, sequences, scores in self.rows:
                writer.writerows([name, i, *row] for i, row in enumerate(zip(sequences, *scores.values(), strict=True)))
        name, sequences, scores = self.rows[-1]
        titles = [f">{name} request={i} reward={r:.3f}" for i, r in enumerate(scores["reward"])]
        pairs = zip(titles, sequences, strict=True)
        (self.out / "samples.fasta").write_text("".join(f"{title}\n{sequence}\n" for title, sequence in pairs))
        print(f"wrote {self.out / 'samples.csv'} and {self.out / 'samples.fasta'}")


def quantiles(values: list[float]) -> str:
    """The median and the 10 % and 90 % quantiles."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return f"{middle:.2f} ({low:.2f}, {high:.2f})"


def checked(options: argparse.Namespace) -> argparse.Namespace:
    """The options, with their numbers and the folder checked."""
    for name, least in (("n", 1), ("steps", 1), ("rollouts", 10), ("updates", 2), ("seed", 0)):
        check_number(f"--{name}", getattr(options, name), int, least=least)
    guided.check_folder(options.out)
    return options


def compare(table: Comparison, rollouts: int, updates: int) -> None:
    """Fits a value, draws with four samplers, and writes the files; a wrong reward or prompt fails first."""
    guided.resolve_reward(table.reward)
    table.model.prompted([table.prompt])
    table.out.mkdir(parents=True, exist_ok=True)
    value = guided.fit_value(
        table.model,
        table.reward,
        target="mean",
        n=rollouts,
        out=table.out / "value",
        prompt=table.prompt,
        steps=min(32, table.model.steps),  # fewer steps are cheaper; the value is a function of time, not of the step
        batch_size=128,
        updates=updates,
        n_check=0,
    )
    table.header()
    table.add("unguided", Unguided())
    table.add("best of 10", BestOfN(N=10))
    table.add("SVDD-MC", SVDD(M=10, alpha=0.0), value=value)
    folder = table.out / "svdd-pm"
    table.add("SVDD-PM", SVDD(M=10, alpha=0.0), out=folder, report=True)
    print(f"the report is {folder / 'report.html'}")
    table.write()
