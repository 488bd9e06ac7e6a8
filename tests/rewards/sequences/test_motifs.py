"""Motifs: scores by hand, the score's law by enumerating all words, and counts that another FIMO agrees with."""

import itertools
import math
import random
import sys

import numpy as np
import pytest

from guided.rewards.sequences.composition import encode
from guided.rewards.sequences.jaspar import Motif, find_motif
from guided.rewards.sequences.motifs import _count, motif_count, motif_score, motif_table
from guided.scoring.objective import resolve_reward

FACTORS = ["HNF4A", "HNF1A", "GATA1::TAL1", "SPI1", "MA0114.4"]
SHORT = Motif("X", "x", np.array([[8, 0, 3, 1, 0], [1, 0, 3, 1, 9], [0, 9, 2, 1, 0], [3, 1, 0, 1, 2]], dtype=float))
WORDS = ["".join(word) for word in itertools.product("ACGT", repeat=5)]


def drawn(n: int, length: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices("ACGT", k=length)) for _ in range(n)]


def reverse_complement(x: str) -> str:
    return x.translate(str.maketrans("ACGT", "TGCA"))[::-1]


def by_hand(motif: Motif, x: str) -> list[float]:
    """The log-odds of each window of one strand, summed from the counts."""
    totals, rows = motif.counts.sum(axis=0), dict(zip("ACGT", motif.counts, strict=True))
    return [
        sum(math.log2(4 * (rows[x[i + j]][j] + 0.025) / (totals[j] + 0.1)) for j in range(motif.width))
        for i in range(len(x) - motif.width + 1)
    ]


@pytest.mark.parametrize("name", FACTORS)
def test_the_score_is_the_best_window_of_both_strands(name: str) -> None:
    batch, motif = [*drawn(6, 40), *drawn(3, 23)], find_motif(name)
    wanted = [max(by_hand(motif, x) + by_hand(motif, reverse_complement(x))) for x in batch]
    assert motif_score(batch, name) == pytest.approx(wanted, abs=1e-9)


def test_p_values_are_those_of_all_words() -> None:
    scores = [sum(SHORT.steps["ACGT".index(base), j] for j, base in enumerate(word)) for word in WORDS]
    survival, lowest = SHORT.survival(), SHORT.steps.min(axis=0).sum()
    for score in set(scores):
        assert survival[score - lowest] == sum(other >= score for other in scores) / len(WORDS)
    assert survival[0] == 1 and len(survival) == max(scores) - min(scores) + 1


def test_sites_are_the_words_whose_p_value_is_below_the_threshold() -> None:
    scores = np.array([sum(SHORT.steps["ACGT".index(base), j] for j, base in enumerate(word)) for word in WORDS])
    p_values = (scores[:, None] <= scores).mean(axis=1)
    other = [WORDS.index(reverse_complement(word)) for word in WORDS]
    for threshold in [0.3, 0.05, *np.unique(p_values)[1:6], 1]:  # a p-value that equals the threshold is not below it
        forward = p_values < threshold
        assert 0 < forward.sum() < 1024 * threshold
        assert _count(encode(WORDS), SHORT, threshold).tolist() == (forward.astype(int) + forward[other]).tolist()


def test_a_site_that_the_end_cuts_off_is_none() -> None:
    whole = [word for word in WORDS if _count(encode([word]), SHORT, 0.3)[0]]
    for end in (1, 2):  # a longer one beside them leaves room after them
        assert not _count(encode([*(word[:-end] for word in whole), "A" * 9]), SHORT, 0.3)[:-1].any()


def test_counts_are_those_of_another_implementation_of_fimo() -> None:
    memelite = pytest.importorskip("memelite")
    batch = drawn(300, 200)
    hot = np.array([[[base == letter for base in x] for letter in "ACGT"] for x in batch], dtype=np.int8)
    motifs = {name: find_motif(name) for name in ("HNF4A", "HNF1A", "SPI1")}
    frequencies = {n: (m.counts + 0.025) / (m.counts.sum(axis=0) + 0.1) for n, m in motifs.items()}
    # it rounds the scores' bins more coarsely than we do unless it is told, and adds to the frequencies, not the counts
    tables = memelite.fimo(frequencies, hot, bin_size=1e-3, eps=1e-12, threshold=1e-4)
    for name, hits in zip(motifs, tables, strict=True):
        theirs = np.bincount(hits["sequence_name"].astype(int), minlength=len(batch))
        assert motif_count(batch, name).tolist() == theirs.tolist() and theirs.sum() > 5


def test_random_sequences_have_as_many_sites_as_the_threshold_says() -> None:
    batch, threshold = drawn(500, 200, seed=1), 1e-2
    motif = find_motif("GATA1::TAL1")
    windows = 2 * 500 * (200 - motif.width + 1)
    expected = windows * motif.survival()[motif.cutoff(threshold) - motif.steps.min(axis=0).sum()]
    assert expected == pytest.approx(threshold * windows, rel=1e-3)
    assert motif_count(batch, "GATA1::TAL1", threshold).sum() == pytest.approx(expected, abs=6 * expected**0.5)


@pytest.mark.parametrize("name", FACTORS)
def test_strand_case_letters_and_batch_do_not_matter(name: str) -> None:
    batch = [*drawn(20, 150, seed=2), *drawn(5, 30), "ACGT", None, "", "ACGN" * 9]
    other = [x and reverse_complement(x).lower().replace("t", "u") for x in batch]
    for reward in (motif_count, motif_score):
        scores = reward(batch, name)
        assert scores == pytest.approx(reward(other, name), abs=1e-9)
        assert scores.tolist() == [reward([x], name)[0] for x in batch]
        assert scores[-3:].tolist() == [-np.inf] * 3
        assert reward([], name).shape == (0,)
    assert motif_count(["ACGT"], name) == 0 and motif_score(["ACGT"], name) == -np.inf


def test_a_planted_site_is_found_where_it_is_whole() -> None:
    best = "".join("ACGT"[i] for i in find_motif("HNF4A").counts.argmax(axis=0))
    for site in (best, reverse_complement(best)):
        assert motif_count([f"{'A' * n}{site}{'A' * (9 - n)}" for n in range(10)], "HNF4A").min() >= 1
        assert motif_count([site[1:] + "A" * 9, "A" * 9 + site[:-1]], "HNF4A", 1e-5).tolist() == [0, 0]
    assert motif_score([best], "HNF4A")[0] == find_motif("HNF4A").log_odds.max(axis=0).sum()


@pytest.mark.parametrize(
    ("given", "id", "name"),
    [
        ("MA0114.4", "MA0114.4", "HNF4A"),
        ("ma0114.4", "MA0114.4", "HNF4A"),
        ("MA0114", "MA0114.5", "HNF4A"),
        ("HNF4A", "MA0114.5", "HNF4A"),
        ("hnf4a", "MA0114.5", "HNF4A"),
        ("HNF1A", "MA0046.3", "HNF1A"),
        ("Hnf1A", "MA1991.2", "Hnf1A"),
        ("GATA1::TAL1", "MA0140.3", "GATA1::TAL1"),
        ("SPI1", "MA0080.7", "Spi1"),
        ("SP1", "MA0079.5", "SP1"),  # looks like an id
    ],
)
def test_a_motif_has_an_id_and_a_name(given: str, id: str, name: str) -> None:
    motif = find_motif(given)
    assert (motif.id, motif.name) == (id, name)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("motif_score?id=CTCFX", "did you mean 'CTCF'?"),
        ("motif_count?id=MA9999.1", "JASPAR has no motif 'MA9999.1'"),
        ("motif_count?id=HNF4A&threshold=0", "threshold is a p-value"),
        ("motif_count?id=EN1", "no sequence matches EN1 (MA0027.3, 6 nt) with a p-value below 0.0001"),
        ("motif_count", "needs 'id'"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_wrong_parameters_are_known_at_construction(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"reward '.*") as caught:
        resolve_reward(spec)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_has_the_counts_of_each_motif() -> None:
    batch = drawn(60, 200)
    table = motif_table(batch, ["HNF4A", "SPI1"], threshold=1e-3)
    assert [line.motif.id for line in table] == ["MA0114.5", "MA0080.7"]
    for line, name in zip(table, ["HNF4A", "SPI1"], strict=True):
        counts = motif_count(batch, name, 1e-3)
        assert line.counts.tolist() == counts.tolist()
        assert line.mean == pytest.approx(counts.mean()) and line.present == (counts > 0).mean()
    for wrong in ([], ["ACGT", "ACGN"]):
        with pytest.raises(ValueError, match=r"sequences over ACGT, given (none|'ACGN')"):
            motif_table(wrong, ["HNF4A"])


def test_without_pyjaspar_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find_motif.cache_clear()
    monkeypatch.setitem(sys.modules, "pyjaspar", None)
    for spec in ("motif_count?id=HNF4A", "motif_score?id=HNF4A"):
        with pytest.raises(ImportError, match="pip install guided"):
            resolve_reward(spec)
