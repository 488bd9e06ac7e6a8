"""Sequences of DNA or RNA: how they are recognised, and `samples.fasta` of a run folder.

>request_17 seed=0 reward=5.25 prompt=HepG2
ACGT…
"""

__all__ = ["alphabet", "fasta", "write_fasta"]

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from guided.report.rows import Row, load_rows, prompt_text, sample_of
from guided.storage import read_json, write_whole

LINE = 80  # characters


def alphabet(samples: Iterable[str]) -> str | None:
    """The letters of sequences, "ACGT" of DNA or "ACGU" of RNA; None for samples of another modality.

    All of them must be words over the four letters. C alone is not enough: it is carbon in SMILES, but no molecule is
    written with A, G, T or U.
    """
    words = {*samples}
    letters = {*"".join(words)}
    if "" in words or not letters - {"C"}:
        return None
    return next((known for known in ("ACGT", "ACGU") if letters <= {*known}), None)


def fasta(rows: Iterable[Row], run: Mapping[str, Any]) -> str:
    """Rows of `samples.csv` as FASTA: request, seed, reward and prompt in the header, where the run has them."""
    records = []
    for row in rows:
        facts = {"seed": row.get("seed", ""), "reward": row.get("reward", ""), "prompt": prompt_text(run, row)}
        words = [f">request_{_line(row.get('request', ''))}"]
        words += [f"{key}={_line(fact)}" for key, fact in facts.items() if fact]
        sequence = sample_of(row)
        lines = [sequence[i : i + LINE] for i in range(0, len(sequence), LINE)]
        records.append("\n".join([" ".join(words), *lines]) + "\n")
    return "".join(records)


def _line(text: str) -> str:
    """The text on one line, without control characters: a line of its own would be a sequence."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def write_fasta(folder: Path) -> Path | None:
    """Writes `samples.fasta` beside a run folder's `samples.csv`, and returns its path; None if there are no sequences.

    Raises:
        GuidedError: `run.json` or `samples.csv` cannot be read.
        OSError: The folder cannot be written.
    """
    rows = load_rows(folder / "samples.csv")
    if alphabet(map(sample_of, rows)) is None:
        return None
    run = read_json(folder / "run.json")
    config = run.get("config")
    text = fasta(rows, {"config": config if isinstance(config, dict) else {}})
    write_whole(folder / "samples.fasta", text)
    return folder / "samples.fasta"
