"""What the examples of sequence design share: samplers side by side, a table, a FASTA file, a CSV file and a report.

Imported by dna.py and rna.py; it does nothing by itself.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import guided
from guided import Diffusion, log_likelihood
from guided.metrics.kmers import correlation, kmer_frequencies
from guided.samplers import SVDD, BestOfN, Unguided


@dataclass
class Comparison:
    """The rows of a table: what each sampler drew, what it is worth, and what it cost.

    Args:
        model: The loaded model.
        reward: What `guided.sample` takes.
        n: Samples of each sampler.
        out: The folder for the files.
        prompt: The prompt of all samples.
        judges: More scores of the samples, by column: functions of n sequences.
        natural: 3-mer frequencies to compare with, with shape `(64,)`; those of the first sampler if there are none.
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

    def header(self) -> None:
        """Prints the names of the columns."""
        print(f"{'':12}" + "".join(f"{name:>26}" for name in ("reward", *self.judges)), end="")
        print(f"{'3-mer r':>9}{'log p':>8}{'distinct':>10}{'network rows':>14}{'seconds':>9}")
        print(f"{'':12}" + f"{'median (10 %, 90 %)':>26}" * (1 + len(self.judges)), flush=True)

    def add(self, name: str, sampler: object, **options: object) -> None:
        """Draws with a sampler and prints its row."""
        run = guided.sample(
            self.model, self.reward, sampler, n=self.n, seed=self.seed, prompt=self.prompt, batch_size=64, **options
        )
        self.show(name, run.samples, run.rewards.tolist(), run.stats.network_rows, run.stats.seconds["total"])

    def add_recorded(self, name: str, *options: str) -> None:
        """The same by the command line, which keeps a run folder and ends with a report."""
        folder = self.out / name.lower()
        sizes = {"-n": self.n, "--seed": self.seed, "--steps": self.model.steps}
        words = [self.model.name, "--reward", self.reward, "--prompt", self.prompt, "--out", folder, *options]
        words += [word for pair in sizes.items() for word in pair]
        words = [sys.executable, "-m", "guided", "sample", *map(str, words)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        with (folder / "samples.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        cost = json.loads((folder / "run.json").read_text())["stats"]
        rewards = [float(row["reward"]) for row in rows]
        self.show(name, [row["sample"] for row in rows], rewards, cost["network_rows"], cost["seconds"]["total"])
        print(f"the report is {folder / 'report.html'}")

    def show(self, name: str, samples: list[str], rewards: list[float], network_rows: int, seconds: float) -> None:
        """Keeps the samples and prints their row."""
        scores = {"reward": rewards}
        scores |= {judge: [float(r) for r in score(samples)] for judge, score in self.judges.items()}
        self.rows.append((name, samples, scores))
        print(f"{name:12}" + "".join(f"{law(values):>26}" for values in scores.values()), end="")
        print(f"{self.likeness(samples):9.3f}{self.likelihood(samples):8.1f}{len(set(samples)):10}", end="")
        print(f"{network_rows:14,}{seconds:9.0f}", flush=True)

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
        """All samples as `samples.csv`, those of the last sampler as `samples.fasta`."""
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


def law(values: list[float]) -> str:
    """The median and the 10 % and 90 % quantiles."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return f"{middle:.2f} ({low:.2f}, {high:.2f})"


def compare(table: Comparison, rollouts: int, updates: int, *options: str) -> None:
    """Fits a value, draws with four samplers, and writes the files; `options` are more of the command line's."""
    table.out.mkdir(parents=True, exist_ok=True)
    value = guided.fit_value(
        table.model,
        table.reward,
        target="mean",
        n=rollouts,
        out=table.out / "value",
        prompt=table.prompt,
        steps=min(32, table.model.steps),  # cheap trajectories: the value is one of the time, not of the step
        batch_size=128,
        updates=updates,
        n_check=0,
    )
    table.header()
    table.add("unguided", Unguided())
    table.add("best of 10", BestOfN(N=10))
    table.add("SVDD-MC", SVDD(M=10, alpha=0.0), value=value)
    table.add_recorded("SVDD-PM", "--sampler", "svdd", "-M", "10", "--alpha", "0", *options)
    table.write()
