"""The command `guided pareto`: what it writes, and the front in the report."""

import json

import numpy as np
import pytest

from guided.errors import GuidedError
from guided.metrics.pareto import hypervolume, non_dominated
from guided.report.front import Front
from tests.cli.test_sample import RUN, model, rows_of  # noqa: F401 (a fixture)


def test_the_front_of_a_run_is_written_and_shown(guided, model, tmp_path):  # noqa: F811
    words = ("pareto", model, "-r", "qed", "-r", "sa", "-r", "molwt?below=90", *RUN)
    code, out, err = guided(*words, "--out", tmp_path / "a")
    assert code == 0, err
    rows, front = rows_of(tmp_path / "a/samples.csv"), rows_of(tmp_path / "a/pareto.csv")
    assert [float(row["qed_weight"]) for row in rows] == pytest.approx([k / 15 for k in range(10)])
    kept = [row for row in rows if float(row["molwt"]) == 0]
    scores = np.array([[float(row["qed"]), float(row["sa"])] for row in kept])
    best = {row["sample"] for row, it in zip(kept, non_dominated(scores), strict=True) if it}
    assert {row["sample"] for row in front} == best and len(front) == len(best)
    found = json.loads((tmp_path / "a/pareto.json").read_text())
    assert found["hypervolume"] == pytest.approx(hypervolume(scores, [0, 0]))
    assert found["left_out"] == len(rows) - len(kept) and found["rewards"] == ["qed", "sa"]
    assert f"hypervolume {found['hypervolume']:.4f}" in out and (tmp_path / "a/pareto.png").stat().st_size > 1000
    config = json.loads((tmp_path / "a/run.json").read_text())["config"]
    assert config["preferences"] == "grid=16" and config["reward"]["aggregate"] == "tchebycheff"
    code, out, _ = guided(*words, "--out", tmp_path / "a")
    assert code == 0 and "nothing to do" in out


def test_wrong_words_are_one_line(guided, model, tmp_path):  # noqa: F811
    for words, said in (
        (("-r", "qed", "-r", "sa"), "give --out"),
        (("-r", "qed", "--out", tmp_path / "b"), "a front is one of several rewards: give --reward twice or more"),
        (("-r", "qed", "-r", "sa", "--preferences", "x", "--out", tmp_path / "b"), "--preferences is 'x'"),
        (("-r", "qed", "-r", "sa", "--only", "3", "--out", tmp_path / "b"), "--only draws single samples"),
    ):
        code, _, err = guided("pareto", model, *words, *RUN)
        assert code == 2 and said in err and len(err.splitlines()) == 1


def test_a_front_counts_equal_samples_once_and_leaves_out_what_failed():
    rows = [
        {
            "sample": sample,
            "a_raw": a,
            "a": a,
            "b_raw": b,
            "b": b,
            "c_raw": "1",
            "c": c,
            "a_weight": "0",
            "b_weight": "1",
        }
        for sample, a, b, c in [
            ("x", "0.5", "0.5", "0"),
            ("x", "0.5", "0.5", "0"),
            ("y", "0.4", "0.4", "0"),
            ("z", "-inf", "1", "0"),
            ("v", "1", "1", "-0.1"),
        ]
    ]
    front = Front.of(rows)
    assert [front.rows[i]["sample"] for i in front.members] == ["x"] and front.left_out == 2
    assert front.measures["hypervolume"] == pytest.approx(0.25) and front.names == ["a", "b"]
    assert Front.of([{"sample": "x", "a": "1", "a_raw": "1"}]) is None and Front.of([]) is None
    with pytest.raises(GuidedError, match="none of 1 samples"):
        Front.of(rows[3:4])
