"""The correlation of a sequence's words with real DNA's, against the measure of sets."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from guided.metrics.kmers import correlation, kmer_frequencies
from guided.rewards.sequences.activity import CELLS
from guided.rewards.sequences.kmers import natural_kmers
from guided.rewards.sequences.oracle import FOLDER
from guided.scoring.objective import resolve_reward

REAL = load_file(FOLDER / "dna" / "kmers.safetensors")
sequence = st.text("ACGT", min_size=4, max_size=40)


def wanted(x: str, cell: str) -> float:
    r = correlation(kmer_frequencies([x], 3), REAL[cell])
    return r if np.isfinite(r) else -np.inf


@given(st.lists(sequence, min_size=1, max_size=6), st.sampled_from(CELLS))
def test_it_is_the_measure_of_a_set_of_one(batch: list[str], cell: str) -> None:
    assert list(natural_kmers(batch, cell)) == pytest.approx([wanted(x, cell) for x in batch], abs=1e-12)


@given(st.lists(sequence, min_size=2, max_size=5))
def test_a_score_does_not_depend_on_the_other_sequences(batch: list[str]) -> None:
    """Shorter ones are padded, and nothing is read from the padding."""
    assert list(natural_kmers(batch, "K562")) == [natural_kmers([x], "K562")[0] for x in batch]


def test_codes_score_as_text_does() -> None:
    codes = torch.randint(0, 4, (30, 50), generator=torch.Generator().manual_seed(0))
    codes[3, 7] = 4
    found = natural_kmers(codes, "HepG2")
    text = ["".join("ACGTN"[code] for code in row) for row in codes.tolist()]
    assert isinstance(found, torch.Tensor) and found.tolist() == natural_kmers(text, "HepG2") and found[3] == -torch.inf


def test_the_prompt_names_the_cell_type_and_letters_may_be_rna() -> None:
    x = "ACGTTGCATTTGCAAACGTA"
    each = resolve_reward("natural_kmers")([x] * 4, list(CELLS)).tolist()
    assert each == pytest.approx([wanted(x, cell) for cell in CELLS], abs=1e-12) and len(set(each)) == 4
    assert natural_kmers([x.replace("T", "u")], "K562") == natural_kmers([x], "K562")


@pytest.mark.parametrize("sample", [None, "", "AC", "ACGN", "ACGTACGT ", 7])
def test_what_is_no_sequence_of_three_letters_is_invalid(sample: object) -> None:
    assert natural_kmers([sample, "ACGTA"], "K562")[0] == -np.inf
    assert np.isfinite(natural_kmers([sample, "ACGTA"], "K562")[1])


def test_a_wrong_cell_type_is_told_early() -> None:
    with pytest.raises(ValueError, match=r"target 'HepG3' is no cell type.*HepG2"):
        resolve_reward("natural_kmers?target=HepG3")
