"""How the DNA and RNA models and the oracles are trained: splicing, groups, decoys, the area under the curve."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import guided
from guided.errors import GuidedError
from guided.nets.convolution import TokenConvolution
from guided.storage import read_json, read_tensors
from training import nucleotides
from training.dna import train as dna
from training.dna.oracle import area, augment, markov
from training.held_out import HeldOut
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


SMALL = {"alphabet": "ACGT", "length": 8, "labels": ["none", "a", "c"], "width": 8, "kernel": 3, "dilations": [1]}


def test_packed_sequences_are_read_as_they_were(tmp_path: Path) -> None:
    data, chromosomes = Dataset(["ACGT", "TTGA", "CCCC"], np.array([4, 1, 2])), ["chr10", "chr2", "chrX"]
    dna.pack(data, chromosomes, tmp_path / dna.PACKED)
    found, places = dna.read(tmp_path)
    assert (found.sequences, found.labels.tolist(), places) == (data.sequences, [4, 1, 2], chromosomes)
    assert found.labels.dtype == np.int64


@pytest.mark.parametrize("text", ["", "1,,2", "0,1", "1,-2", "1 2", "a"])
def test_dilations_are_whole_numbers(text: str) -> None:
    assert nucleotides.numbers("1, 2,16") == [1, 2, 16]
    with pytest.raises(GuidedError, match="dilations is"):
        nucleotides.numbers(text)


def test_dropout_is_for_training_only() -> None:
    torch.manual_seed(0)
    plain, dropping = TokenConvolution(4, 3, 8, 3, (1, 2)), TokenConvolution(4, 3, 8, 3, (1, 2), dropout=0.5)
    assert plain.state_dict().keys() == dropping.state_dict().keys()
    dropping.load_state_dict(plain.state_dict())
    x, label = torch.randint(0, 5, (3, 8)), torch.tensor([0, 1, 2])
    assert not torch.equal(dropping(x, label), plain(x, label))
    assert torch.equal(dropping.eval()(x, label), plain(x, label))


def held_out(folder: Path, n: int = 40) -> HeldOut:
    net = nucleotides.network(SMALL)
    torch.nn.init.zeros_(net.head.weight)
    assert net.head.bias is not None
    torch.nn.init.zeros_(net.head.bias)
    x = torch.zeros(n, 8, dtype=torch.long)
    return HeldOut(x, np.ones(n, dtype=np.int64), Trainer(net, 1e-3), folder)


def test_held_out_loss_of_a_network_that_knows_nothing(tmp_path: Path) -> None:
    held, state = held_out(tmp_path), torch.get_rng_state()
    assert held.measure() == pytest.approx(np.log(4), rel=1e-5)
    assert torch.equal(torch.get_rng_state(), state)
    assert held.masked.sum(1).sort().values.tolist() == sorted(list(range(1, 9)) * 5)


def test_best_averaged_weights_are_exported_and_kept_over_sessions(tmp_path: Path) -> None:
    held = held_out(tmp_path / "net")
    trainer, bias = held.trainer, held.trainer.loop.average["head.bias"]
    for step, logit in enumerate((1.0, 3.0, 2.0)):  # of A, which all sequences are made of
        trainer.loop.step = step
        bias[0] = logit
        held.measure()
    trainer.save(tmp_path / "net")
    again = HeldOut(held.x, np.ones(40, dtype=np.int64), trainer, tmp_path / "net")
    again.measure()
    nucleotides.export(SMALL, tmp_path / "net", tmp_path / "model")
    assert read_tensors(tmp_path / "model" / "model.safetensors")["head.bias"].tolist() == [3, 0, 0, 0]


def test_dry_run_of_a_larger_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 200)) for _ in range(12)]
    dna.pack(Dataset(sequences, np.array([1, 2, 3, 4] * 3)), ["chr1"] * 4 + ["chr3"] * 8, tmp_path / dna.PACKED)
    monkeypatch.setattr(Trainer, "run", lambda self, minutes, folder: iter([0.0, 0.5]))
    options: dict[str, Any] = {"width": 8, "dilations": "1,2", "dropout": 0.1, "decay": 0.1, "batch": 4}
    dna._train(tmp_path, "large", 1.0, **options)
    dna._export(tmp_path, "large", tmp_path / "model")
    config = read_json(tmp_path / "model" / "config.json")
    assert (config["width"], config["dilations"], config.get("dropout")) == (8, [1, 2], None)
    assert guided.load(tmp_path / "model", steps=4).steps == 4


def test_dry_run_of_rna_with_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that are exported are those with the best loss on what is held out, not the last."""
    rng = np.random.default_rng(0)
    data = Dataset(["".join(rng.choice(list("ACGT"), 50)) for _ in range(12)], np.array([1, 2] * 6))
    monkeypatch.setattr(rna, "read", lambda work, human: (data, np.arange(12) < 4))
    monkeypatch.setattr(Trainer, "run", lambda self, minutes, folder: iter([0.0, 0.5]))
    rna._train(name="wide", work=tmp_path, width=8, dilations="1,2", dropout=0.1, decay=0.1, batch=4)
    assert (tmp_path / "wide" / "best" / "state.json").is_file()
    rna._export(tmp_path, "wide", tmp_path / "model")
    config = read_json(tmp_path / "model" / "config.json")
    assert (config["alphabet"], config["width"], config["dilations"]) == ("ACGU", 8, [1, 2])
    assert "dropout" not in config
    assert guided.load(tmp_path / "model", steps=4).steps == 4


@pytest.mark.parametrize(("length", "rows"), [(200, 256), (50, 1024)])
def test_as_many_tokens_are_held_out_whatever_their_length(tmp_path: Path, length: int, rows: int) -> None:
    x, label = torch.zeros(1500, length, dtype=torch.long), np.ones(1500, dtype=np.int64)
    assert len(HeldOut(x, label, Trainer(nucleotides.network(SMALL), 1e-3), tmp_path).x) == rows


def test_state_of_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "run", lambda self, minutes, folder: (self.save(folder), iter(()))[1])
    data, plan = Dataset(["AAAAAAAA"], np.array([1])), Plan(1.0, 1)
    nucleotides.fit(data, SMALL, tmp_path, plan)
    nucleotides.fit(data, SMALL, tmp_path, plan)
    with pytest.raises(GuidedError, match=r"dilations is \[2\]; the training in .* has \[1\]"):
        nucleotides.fit(data, {**SMALL, "dilations": [2]}, tmp_path, plan)


def test_batch_and_rate_follow_the_device_unless_given() -> None:
    plan = Plan(1.0, compiled=None)
    found = [plan.on(torch.device(name)) for name in ("cpu", "cuda")]
    assert [(p.batch, p.lr, p.compiled) for p in found] == [(128, 2e-3, False), (1024, 3e-3, True)]
    given = Plan(1.0, 7, 0.5).on(torch.device("cuda"))
    assert (given.batch, given.lr, given.compiled) == (7, 0.5, False)
