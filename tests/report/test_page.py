"""The report: one file that stands alone, whatever the samples are."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from guided.report import molecules, write_report
from guided.report.figures import histogram, value_path
from guided.report.molecules import molecule
from guided.report.page import average_path
from guided.storage import write_csv

MOLECULES = ["CCO", "c1ccccc1", "CC(=O)O", "C1CC1", "CCN"]
HEADER = ["request", "seed", "sample", "reward", "qed_raw", "qed", "reward_calls", "network_rows"]
RUN = {
    "config": {
        "model": "toys/molecules",
        "sampler": {"name": "svdd", "M": [1, 2, 3, 4, 5]},
        "n": 5,
        "seed": 0,
        "steps": 3,
    },
    "command": 'guided sample molecules --reward "a<b"',
    "reward_name": "qed",
    "versions": {"guided": "0.1.0"},
    "stats": {
        "network_rows": 1234,
        "network_calls": 5,
        "reward_calls": 67,
        "seconds": {"network": 6.0, "reward": 2.0, "decode": 1.0, "total": 10.0},
    },
}


@pytest.fixture
def folder(tmp_path):
    RUN["config"]["device"] = "cpu"
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    write_csv(tmp_path / "path.csv", [["batch", "step", "mean", "best"], [0, 1, 0.1, 0.2], [0, 2, 0.3, 0.4]])
    return tmp_path


def fill(folder, samples, rewards, unguided=()):
    rows = [[i, 0, *pair, pair[1], pair[1], 0, 0] for i, pair in enumerate(zip(samples, rewards, strict=True))]
    write_csv(folder / "samples.csv", [HEADER, *rows])
    if unguided:
        write_csv(folder / "unguided.csv", [HEADER, *([0, 0, "C", r, r, r, 0, 0] for r in unguided)])
    return write_report(folder).read_text(encoding="utf-8")


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<(style|svg).*?</\1>|<[^>]*>", " ", page, flags=re.S))


def test_it_shows_both_distributions_the_best_molecules_and_the_cost(folder):
    page = fill(folder, MOLECULES, [0.1, 0.9, 0.4, 0.5, 0.3], unguided=[0.1, 0.2, 0.3])
    text = text_of(page)
    assert "molecules, guided by qed" in text and "M = (1, … 5)" in text
    assert "0.400 median reward unguided 0.200" in text and "0.900 best reward unguided 0.300" in text
    assert page.count("<svg") == 2 + 5
    assert text.index("0.900 #1") < text.index("0.500 #3") < text.index("0.100 #0")
    assert "1,234" in text and "overhead 1.0 s 10.0 %" in text and "network 6.0 s 60.0 %" in text


def test_it_needs_no_other_file_and_its_text_is_escaped(folder):
    page = fill(folder, MOLECULES, [0.1, 0.9, 0.4, 0.5, 0.3])
    assert "a&lt;b" in page and "a<b" not in page
    assert not re.search(r"<(script|link|img|iframe)", page)
    fetched = set(re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page))
    assert all(target.startswith("#") for target in fetched), fetched


def test_samples_that_are_no_molecules_are_text(folder):
    page = fill(folder, ["ACGT", "<b>", "ACGT", "GG", "TT"], [0.1, 0.9, 0.4, 0.5, 0.3])
    assert page.count("<svg") == 2 and "&lt;b&gt;" in page
    assert text_of(page).count("ACGT") == 1  # the better of the two


@pytest.mark.parametrize("rewards", [["-inf"] * 5, [1.0] * 5, ["-inf", 1.0, 2.0, "inf", 3.0]])
def test_it_draws_rewards_of_any_size(folder, rewards):
    assert "</html>" in fill(folder, MOLECULES, rewards, unguided=["-inf", 0.0])


def test_a_run_without_a_reward_has_a_report(folder):
    write_csv(folder / "samples.csv", [["request", "seed", "sample"], *([i, 0, s] for i, s in enumerate(MOLECULES))])
    assert "</html>" in write_report(folder).read_text()


def test_the_path_is_averaged_over_batches_without_steps_that_saw_nothing():
    rows = [(0, 1, 0.0, 1.0), (1, 1, 1.0, 3.0), (0, 2, "nan", "nan"), (1, 2, 5.0, 6.0), (0, 3, "nan", "nan")]
    path = [dict(zip(("batch", "step", "mean", "best"), map(str, row), strict=True)) for row in rows]
    assert average_path(path) == ([1, 2], [0.5, 5.0], [2.0, 6.0])


def test_figures_are_svg():
    for svg in (histogram([1, 2, 3], [0, 1], "qed"), value_path([1, 2], [0, 1], [1, 2], "qed"), molecule("CCO")):
        assert ET.fromstring(svg).tag.endswith("svg")
    assert histogram([], [], "qed") == ""
    assert molecule("not a molecule") is None and molecule("") is None


def test_quantiles_of_the_rewards_are_in_a_table(folder):
    """Of those that are finite; the others are counted."""
    text = text_of(fill(folder, MOLECULES, [0.1, 0.9, 0.4, "-inf", 0.3], unguided=[0.1, 0.2, 0.3]))
    assert "qed samples 10 % median 90 % best no score" in text
    assert "guided 5 0.160 0.350 0.750 0.900 1" in text and "unguided 3 0.120 0.200 0.280 0.300 0" in text


class Lengths:
    """Stands for ChemNet: one activation, the length of the SMILES."""

    def statistics(self, smiles):
        lengths = np.array([len(one) for one in smiles], float)
        return np.array([lengths.mean()]), np.array([[lengths.var()]])


@pytest.mark.parametrize(("n", "shown"), [(49, ""), (50, "9.00 FCD to the unguided 50 and 50 molecules")])
def test_sets_of_enough_molecules_have_a_distance(folder, monkeypatch, n, shown):
    """Of four carbons and of one: 3 squared."""
    monkeypatch.setattr(molecules, "ChemNet", Lengths)
    text = text_of(fill(folder, ["CCCC"] * n, [0.1] * n, unguided=[0.1] * n))
    assert shown in text and ("FCD" in text) == bool(shown)


def test_without_the_library_the_report_says_what_a_distance_needs(folder, monkeypatch):
    def missing():
        raise ImportError

    monkeypatch.setattr(molecules, "ChemNet", missing)
    assert "needs fcd-torch" in text_of(fill(folder, ["CCCC"] * 50, [0.1] * 50, unguided=[0.1] * 50))


def test_a_molecule_with_a_pose_says_where_it_is(folder):
    (folder / "poses").mkdir()
    (folder / "poses" / "00001.sdf").touch()
    text = text_of(fill(folder, MOLECULES, [0.1, 0.9, 0.4, 0.5, 0.3]))
    assert text.count("pose in ") == 1 and "0.900 #1 pose in poses/00001.sdf" in text
