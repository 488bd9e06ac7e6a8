"""k-mer frequencies: closed forms, both strands, and a plain count beside the vectorised one."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.errors import GuidedError
from guided.metrics import kmers as module
from guided.metrics.kmers import correlation, kmer_counts, kmer_frequencies, kmers

SEQUENCES = st.lists(st.text("ACGT", max_size=30), min_size=1, max_size=6)
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def reverse(sequence):
    return sequence.translate(COMPLEMENT)[::-1]


def counted(sequences, k):
    """A count that is too simple to be wrong."""
    return Counter(s[i : i + k] for s in sequences for i in range(len(s) - k + 1))


def by_word(table, k):
    return {word: n for word, n in zip(kmers(k), table.tolist(), strict=True) if n}


def test_words_are_in_alphabetical_order():
    assert kmers(1) == list("ACGT")
    assert kmers(3) == sorted(kmers(3)) and len(set(kmers(3))) == 64


def test_a_sequence_made_by_hand():
    assert by_word(kmer_counts(["ACACG", "GG"], 2), 2) == {"AC": 2, "CA": 1, "CG": 1, "GG": 1}
    assert kmer_frequencies(["ACACG", "GG"], 2).dtype == np.float64
    assert kmer_frequencies(["ACACG", "GG"], 2)[kmers(2).index("AC")] == 2 / 5
    assert kmer_frequencies(["AACG"], 1).tolist() == [0.5, 0.25, 0.25, 0.0]


@given(SEQUENCES, st.integers(1, 5))
def test_it_counts_what_a_plain_count_counts(sequences, k):
    assert by_word(kmer_counts(sequences, k), k) == dict(counted(sequences, k))


@given(SEQUENCES, st.integers(1, 4))
def test_frequencies_sum_to_one(sequences, k):
    if max(map(len, sequences)) < k:
        with pytest.raises(ValueError, match=f"no word of {k} letters"):
            kmer_frequencies(sequences, k)
    else:
        assert kmer_frequencies(sequences, k).sum() == pytest.approx(1, abs=1e-12)


@given(SEQUENCES, st.integers(1, 4))
def test_both_strands_are_symmetric_under_the_reverse_complement(sequences, k):
    both = kmer_counts(sequences, k, both_strands=True)
    index = [kmers(k).index(reverse(word)) for word in kmers(k)]
    assert (both == both[index]).all()
    assert (both == kmer_counts(sequences, k) + kmer_counts(map(reverse, sequences), k)).all()


@given(SEQUENCES, st.integers(1, 4))
def test_rna_and_lower_case_are_the_same_letters(sequences, k):
    assert (kmer_counts([s.replace("T", "u").lower() for s in sequences], k) == kmer_counts(sequences, k)).all()


def test_other_letters_are_in_no_word():
    assert by_word(kmer_counts(["ACNGT", "é", "CC"], 2), 2) == {"AC": 1, "GT": 1, "CC": 1}


def test_parts_that_are_counted_at_a_time_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), size=17)) for _ in range(50)]
    whole = kmer_counts(sequences, 3)
    monkeypatch.setattr(module, "CHUNK", 40)
    assert (kmer_counts(sequences, 3) == whole).all() and whole.sum() == 50 * 15


def test_correlation_is_pearsons():
    a, b = np.random.default_rng(1).normal(size=(2, 64))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    assert correlation(a, 3 - 2 * a) == -1 and correlation(a, a) == 1
    assert correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert np.isnan(correlation(a, np.ones(64)))


@pytest.mark.parametrize("k", [0, 13])
def test_words_of_an_impossible_length_are_refused(k):
    with pytest.raises(ValueError, match=f"1 to 12 letters, given k = {k}"):
        kmer_counts(["ACGT"], k)


def test_one_string_is_no_list_of_sequences():
    with pytest.raises(ValueError, match="given one string"):
        kmer_frequencies("ACGT", 1)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        correlation([1, 2, 3], [1, 2])


@pytest.mark.parametrize("k", [2.5, "2", None, True, float("nan")])
def test_a_length_that_is_no_whole_number_is_refused(k):
    with pytest.raises(GuidedError, match="1 to 12 letters, given k = "):
        kmer_counts(["ACGT"], k)


def test_numbers_of_numpy_and_torch_are_numbers():
    for k in (np.int64(2), torch.tensor(2), 2.0):
        assert (kmer_counts(["ACGT"], k) == kmer_counts(["ACGT"], 2)).all()
        assert kmers(k) == kmers(2)
