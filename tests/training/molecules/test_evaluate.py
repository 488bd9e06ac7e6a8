"""The evaluation of samples, on two splits of a few molecules."""

import json
from pathlib import Path

import pytest

from training.molecules import evaluate

SPLITS = {
    "train": ["CCO", "CCN", "c1ccccc1", "CC(=O)O"],
    "test": ["CC(=O)Nc1ccc(O)cc1", "CN1CCC[C@H]1c1cccnc1", "O=C(O)c1ccccc1", "CCN(CC)CC", "C1CCNCC1"],
}


def test_evaluation_of_four_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcd_torch")
    pytest.importorskip("scipy")
    monkeypatch.setattr(evaluate, "read_smiles", lambda split, work: SPLITS[split])
    samples, out = tmp_path / "samples.smi", tmp_path / "metrics.json"
    samples.write_text("OCC\nCCO\n\nCc1ccccc1\n")  # one molecule twice, an invalid sample, a new molecule
    evaluate.main(samples, tmp_path, out, reference=4)
    metrics = json.loads(out.read_text())
    assert metrics["samples"] == 4
    assert metrics["validity"] == 3 / 4
    assert metrics["unique@1k"] == metrics["unique@10k"] == 2 / 3
    assert metrics["novelty"] == 1 / 2
    assert metrics["reference"].startswith("4 random molecules")
    six, others = (evaluate.reference_set(tmp_path, 4)["rings"][i].sum() for i in (6, [3, 4, 5, 7, 8, 9, 10, 11, 12]))
    assert metrics["ring_sizes_distance"] == pytest.approx(abs(1 / 3 - six) + others)
    assert metrics["QED"]["wasserstein_1"] > 0
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert evaluate.reference_set(tmp_path, 4).keys() == {"mean", "covariance", "QED", "SA", "rings"}
