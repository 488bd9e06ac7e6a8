"""Sequences are recognised by their letters, and go into a FASTA file with what the run says of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.report.fasta import alphabet, fasta, write_fasta
from guided.report.rows import prompt_of
from guided.storage import write_csv

RUN = {"config": {"prompt": None}}


@pytest.mark.parametrize(
    ("samples", "letters"),
    [
        (["ACGT", "AC", "G"], "ACGT"),
        (["ACGU", "AC", "G"], "ACGU"),
        (["C", "CC"], None),  # methane and ethane
        (["CCO", "C1CC1"], None),
        (["ACGT", "ACGU"], None),
        (["ACGT", "ACGN"], None),
        (["ACGT", ""], None),
        (["acgt"], None),
        ([], None),
    ],
)
def test_only_words_over_the_four_letters_are_sequences(samples, letters):
    assert alphabet(samples) == letters


def parsed(text):
    """A plain reader of FASTA: header -> sequence."""
    records = [record.split("\n") for record in text.split(">")[1:]]
    return {header: "".join(lines) for header, *lines in records}


@given(st.lists(st.text("ACGT", min_size=1, max_size=200), min_size=1, max_size=5))
def test_it_reads_back(sequences):
    rows = [{"request": str(i), "seed": "7", "sample": s, "reward": repr(i / 3)} for i, s in enumerate(sequences)]
    text = fasta(rows, RUN)
    assert parsed(text) == {f"request_{i} seed=7 reward={i / 3!r}": s for i, s in enumerate(sequences)}
    assert max(len(line) for line in text.split("\n") if not line.startswith(">")) <= 80


def test_the_header_has_what_the_run_has():
    row = {"request": "1", "seed": "0", "sample": "ACGT"}
    assert fasta([row], RUN) == ">request_1 seed=0\nACGT\n"
    assert fasta([row], {"config": {"prompt": "HepG2"}}) == ">request_1 seed=0 prompt=HepG2\nACGT\n"
    several = {"config": {"prompt": ["K562", "two\nwords"]}}
    assert fasta([row | {"reward": "2.5"}], several) == ">request_1 seed=0 reward=2.5 prompt=two words\nACGT\n"
    assert prompt_of(several, 0) == "K562"


def test_a_run_of_molecules_gets_no_file(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    header = ["request", "seed", "sample"]
    write_csv(tmp_path / "samples.csv", [header, [0, 0, "CCO"]])
    assert write_fasta(tmp_path) is None and not (tmp_path / "samples.fasta").exists()
    write_csv(tmp_path / "samples.csv", [header, [0, 0, "GATTACA"]])
    assert write_fasta(tmp_path).read_text() == ">request_0 seed=0\nGATTACA\n"
