"""Sequences of DNA or RNA: how they are told from other samples, and `samples.fasta` of a run folder.

>request_17 seed=0 reward=5.25 prompt=HepG2
ACGT…
"""

__all__ = ["alphabet", "fasta", "prompt_of", "write_fasta"]

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from guided.storage import read_json, read_rows, write_whole

LINE = 80  # letters


def alphabet(samples: Iterable[str]) -> str | None:
    """The letters of sequences, "ACGT" of DNA or "ACGU" of RNA; None for samples of another kind.

    All of them must be words over the four letters. C alone does not tell: it is carbon in SMILES, but no molecule is
    written with A, G, T or U.
    """
    words = {*samples}
    letters = {*"".join(words)}
    if "" in words or not letters - {"C"}:
        return None
    return next((known for known in ("ACGT", "ACGU") if letters <= {*known}), None)


def fasta(rows: Iterable[Mapping[str, str]], run: Mapping[str, Any]) -> str:
    """Rows of `samples.csv` as FASTA: request, seed, reward and prompt in the header, where the run has them."""
    records = []
    for row in rows:
        prompt = " ".join((prompt_of(run, int(row["request"])) or "").split())
        facts = {"seed": row["seed"], "reward": row.get("reward", ""), "prompt": prompt}
        header = " ".join([f">request_{row['request']}", *(f"{key}={fact}" for key, fact in facts.items() if fact)])
        sequence = row["sample"]
        records.append("\n".join([header, *(sequence[i : i + LINE] for i in range(0, len(sequence), LINE))]) + "\n")
    return "".join(records)


def prompt_of(run: Mapping[str, Any], request: int) -> str | None:
    """The prompt of a request; None in a run without prompts."""
    prompt = run["config"].get("prompt")
    return prompt[request] if isinstance(prompt, list) else prompt


def write_fasta(folder: Path) -> Path | None:
    """Writes `samples.fasta` beside a run folder's `samples.csv`, and returns its path; None if there are no sequences.

    Raises:
        GuidedError: `run.json` cannot be read.
        OSError: The folder cannot be written.
    """
    rows = read_rows(folder / "samples.csv")
    if alphabet(row["sample"] for row in rows) is None:
        return None
    write_whole(folder / "samples.fasta", fasta(rows, read_json(folder / "run.json")))
    return folder / "samples.fasta"
