"""Rewards of sequences: slow counting by hand agrees, letters and lengths do not matter, invalid ones are the worst."""

import re
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.rewards.sequences.composition import (
    ENZYMES,
    INVALID,
    encode,
    gc,
    homopolymer,
    recognition_sequences,
    restriction,
    windows_inside,
)
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import rewards

PAGE = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text(encoding="utf-8")
TWO = {"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"}
THREE = {"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"}
MEANS = {**{base: base for base in "ACGT"}, **TWO, **THREE, "N": "ACGT"}
MINE = ["gc", "homopolymer", "restriction", "motif_count", "motif_score", "mfe", "dragonn", "mrl"]
SITE = {"gc": gc, "homopolymer": homopolymer, "restriction": lambda samples: restriction(samples, "EcoRI,BsaI,AY,NGS")}
INVALID_ONES = [None, "", "ACGN", "ACG T", "AC-GT", "ÅCGT", "ACGT\n", "\ud800", 7]

sequence = st.text("ACGT", min_size=1, max_size=30)
sequences = st.lists(sequence, min_size=1, max_size=6)


def reverse_complement(x: str) -> str:
    return x.translate(str.maketrans("ACGTRYKMBVDH", "TGCAYRMKVBHD"))[::-1]


def matches(site: str, x: str) -> int:
    windows = (x[i : i + len(site)] for i in range(len(x) - len(site) + 1))
    return sum(all(base in MEANS[letter] for base, letter in zip(window, site, strict=True)) for window in windows)


@given(sequences)
def test_gc_and_homopolymer_are_what_is_counted_by_hand(batch: list[str]) -> None:
    assert gc(batch).tolist() == [(x.count("G") + x.count("C")) / len(x) for x in batch]
    assert homopolymer(batch).tolist() == [max(len(list(run)) for _, run in groupby(x)) for x in batch]


@given(sequences, st.lists(st.text("ACGTRYSWKMBDHVN", min_size=1, max_size=6), min_size=1, max_size=3))
def test_restriction_sites_are_what_is_counted_by_hand(batch: list[str], sites: list[str]) -> None:
    strands = {site for one in sites for site in (one, reverse_complement(one))}  # a palindrome is there once
    wanted = [sum(matches(site, x) for site in strands) for x in batch]
    assert restriction(batch, ",".join(sites)).tolist() == wanted


@given(sequences)
def test_sites_are_the_same_on_the_other_strand(batch: list[str]) -> None:
    other = [reverse_complement(x) for x in batch]
    for name, reward in SITE.items():
        assert reward(batch).tolist() == reward(other).tolist(), name


@given(sequences, st.lists(st.sampled_from(INVALID_ONES), max_size=3), st.randoms())
def test_a_score_does_not_depend_on_letters_or_on_the_batch(batch: list[str], wrong: list[object], random) -> None:
    mixed = [*batch, *wrong]
    random.shuffle(mixed)
    for name, reward in SITE.items():
        alone = [reward([x])[0] for x in mixed]
        assert reward(mixed).tolist() == alone, name
        assert reward([x.lower().replace("t", "u") if isinstance(x, str) else x for x in mixed]).tolist() == alone
        assert [score == -np.inf for score in alone] == [x in wrong for x in mixed]


@given(sequences)
def test_codes_say_the_letters_and_where_they_end(batch: list[str]) -> None:
    codes, lengths, valid = encode([*batch, None])
    assert valid.tolist() == [True] * len(batch) + [False] and lengths.tolist() == [*map(len, batch), 0]
    for x, row, length in zip(batch, codes, lengths, strict=False):
        assert "".join("ACGT"[code] for code in row[:length]) == x and (row[length:] == INVALID).all()
    assert (codes[-1] == INVALID).all()


def test_windows_end_with_their_sequence() -> None:
    assert windows_inside(encode(["ACGTA", "ACG", "AC", None]), 3).sum(axis=1).tolist() == [3, 1, 0, 0]
    assert windows_inside(encode(["AC"]), 3).shape == (1, 0)


def test_an_empty_batch_has_no_scores() -> None:
    assert [reward([]).shape for reward in SITE.values()] == [(0,)] * len(SITE)


def test_known_sites() -> None:
    eco, bsa, bsa_reverse = "GAATTC", "GGTCTC", "GAGACC"
    batch = [eco, bsa, bsa_reverse, eco * 2, bsa + eco + bsa_reverse, "AAAA", "GAATT"]
    assert restriction(batch, "EcoRI, bsai").tolist() == [1, 1, 1, 2, 3, 0, 0]
    assert restriction(["GGTAACC", "GGTNACC", "GGTACC"], "BstEII").tolist() == [1, -np.inf, 0]
    assert recognition_sequences("SmaI,XmaI,CCCGGG") == ("CCCGGG",)
    assert restriction(["GGTUTC".replace("U", "C")], "ggUcuc").tolist() == [1]


def test_the_enzymes_are_those_of_rebase() -> None:
    book = pytest.importorskip("Bio.Restriction", reason="Biopython, which comes with pyjaspar, has REBASE's table")
    assert {name: getattr(book, name).site for name in ENZYMES} == ENZYMES


def test_transforms_are_limits() -> None:
    limits = resolve_reward(["gc", "homopolymer", "restriction?enzymes=EcoRI"])
    columns = limits.columns(["ACGT" * 3, "A" * 6 + "C" * 6, "GAATTC", "G" * 8])
    assert columns["gc"][:2] == [1, 1] and columns["gc"][3] < 1e-9
    assert columns["homopolymer"] == pytest.approx([1, 1, 1, np.exp(-2)])
    assert columns["restriction"] == pytest.approx([1, 1, np.exp(-0.5), 1])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("restriction?enzymes=EcoRI,HindII", "did you mean 'HindIII'?"),
        ("restriction?enzymes=EcoRI,", "unknown restriction enzyme ''"),
        ("restriction?enzymes=GA-TC", "unknown restriction enzyme 'GA-TC'"),
        ("restriction", "needs 'enzymes'"),
    ],
)
def test_wrong_parameters_are_known_at_construction(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"reward '.*") as caught:
        resolve_reward(spec)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MINE)
def test_the_page_and_the_docstring_say_what_the_score_is(name: str) -> None:
    reward = rewards()[name]
    row = re.search(rf"^\| `{name}[`?].*$", PAGE, re.MULTILINE)
    assert row and (f"`{reward.transform}`" if reward.transform else "| |") in row[0]
    assert reward.modality == "dna" and "-inf" in reward.doc
