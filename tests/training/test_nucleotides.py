"""How the DNA and RNA models and the oracles are trained: splicing, groups, decoys, the area under the curve."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import guided
from training import nucleotides
from training.dna.oracle import area, augment, markov
from training.nucleotides import Dataset, Plan
from training.rna import train as rna
from training.trainer import Trainer


def test_leader_is_spliced_and_ends_before_the_start_codon() -> None:
    genome = "GGAACCGGTTTTATGCCC"
    #         123456789012345678: exons 1-4 and 9-18, the start codon at 13
    assert rna.leader(genome, "+", [(9, 18), (1, 4)], [(13, 18)]) == "GGAATTTT"
    assert rna.leader(rna.complement(genome), "-", [(1, 10), (15, 18)], [(1, 6)]) == "GGAATTTT"


def test_transcripts_of_an_annotation() -> None:
    rows = [
        ("gene", 1, 18, "ID=g"),
        ("exon", 1, 4, "ID=e1;Parent=t1;x=y"),
        ("exon", 9, 18, "ID=e2;Parent=t1"),
        ("CDS", 13, 18, "ID=c1;Parent=t1"),
        ("exon", 1, 4, "ID=e3;Parent=untranslated"),
    ]
    text = "##gff\n" + "\n".join(f"chr\tx\t{kind}\t{a}\t{b}\t.\t+\t.\t{rest}" for kind, a, b, rest in rows)
    assert list(rna.transcripts(text)) == [("+", [(1, 4), (9, 18)], [(13, 18)])]


def test_variants_stay_together_over_others() -> None:
    a, b, c = "A" * 25, "C" * 25, "G" * 25
    found = rna.groups([a + b, c + c, a + c, b + c, "T" * 50])
    # a+b shares its first half with a+c, which shares its second with c+c and b+c
    assert len({*found[:4].tolist()}) == 1 and found[4] != found[0]


def test_human_table_may_be_compressed(tmp_path: Path) -> None:
    import gzip

    text = "utr\tmrl\n" + "ACGU" * 12 + "AC\t3\n" + "ACG\t1\n"
    (tmp_path / "utr.tsv.gz").write_bytes(gzip.compress(text.encode()))
    assert rna.human(tmp_path / "utr.tsv.gz") == ["ACGT" * 12 + "AC"]


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=30))
def test_area_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    score, positive = np.array([float(s) for s, _ in rows]), np.array([p for _, p in rows])
    if positive.all() or not positive.any():
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert area(score, positive) == pytest.approx(np.mean(pairs))


def test_decoys_have_the_dinucleotides_of_their_sequence() -> None:
    torch.manual_seed(0)
    x = torch.tensor([[0, 1] * 100, [2] * 200, [3, 3, 0, 0] * 50]).repeat_interleave(50, 0)
    decoys = markov(x)
    assert (decoys[:, 0] == x[:, 0]).all() and decoys.shape == x.shape
    for rows in (slice(0, 50), slice(50, 100), slice(100, 150)):
        real, fake = (
            torch.bincount(4 * y[rows, :-1].flatten() + y[rows, 1:].flatten(), minlength=16) for y in (x, decoys)
        )
        assert (real - fake).abs().max() / real.sum() < 0.05


def test_augmentation_shifts_and_turns() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 4, (1, 60)).repeat(40, 1)
    seen = {tuple(row) for row in augment(x).tolist()}
    turns = {tuple(y.roll(s).tolist()) for y in (x[0],) for s in range(-10, 11)}
    turns |= {tuple((3 - x[0].roll(s).flip(0)).tolist()) for s in range(-10, 11)}
    assert len(seen) == 2 and seen <= turns


def test_tokens_are_the_letters_in_order() -> None:
    data = Dataset(["ACGT", "TTTT"], np.array([1, 2]))
    assert data.tokens.tolist() == [[0, 1, 2, 3], [3, 3, 3, 3]]
    assert data.select(np.array([False, True])).sequences == ["TTTT"]


def test_a_label_is_learned_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All A under one label, all C under the other: 150 steps tell them apart."""

    def run(self: Trainer, minutes: float, path: Path) -> Iterator[float]:
        yield from [0.0] * 150
        self.save(path)

    monkeypatch.setattr(Trainer, "run", run)
    config = {"alphabet": "ACGT", "length": 8, "labels": ["none", "a", "c"], "width": 8, "kernel": 3, "dilations": [1]}
    data = Dataset(["AAAAAAAA", "CCCCCCCC"] * 32, np.array([1, 2] * 32))
    nucleotides.fit(data, config, tmp_path / "net", Plan(1.0, 32, lr=3e-2, reverse=False))
    nucleotides.export(config, tmp_path / "net", tmp_path / "model")
    run = guided.sample(tmp_path / "model", sampler="unguided", n=20, prompt=["a", "c"] * 10, steps=8)
    right = sum(s.count("AC"[i % 2]) for i, s in enumerate(run.samples)) / 160
    assert right > 0.7
