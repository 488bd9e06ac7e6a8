"""A run folder from somebody else: whatever its files say, the page is written, and nothing in it is markup."""

import copy
import csv
import json
import os
import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from guided.errors import GuidedError
from guided.report import write_report
from guided.report.fasta import write_fasta
from guided.report.rows import best_rows, number, prompt_of, whole_number
from guided.storage import write_csv

EVIL = '<script>alert("1")</script>'
RUN = {
    "config": {"model": "toys/any", "sampler": {"name": "svdd"}, "n": 2, "seed": 0, "steps": 3, "device": "cpu"},
    "reward_name": "qed",
    "stats": {"network_rows": 1, "network_calls": 1, "reward_calls": 1, "seconds": {"total": 1.0}},
}
SAMPLES = {
    "sequences": ["ACGT", "GGCC"],
    "images": ["samples/00000.png", "samples/00001.png"],
    "molecules": ["CCO", "CCN"],
    "texts": ["=1+1", "@a"],
}
NUMBERS = ["", "nan", "-inf", "inf", "1e308", "-1e308", "1e-320", "a", "0x1", "1_0", "é", "2", "2.5"]
HEADER = ["request", "seed", "sample", "reward", "preview", "qed_raw", "qed", "gc_raw", "gc"]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def tags(page):
    parser = Tags()
    parser.feed(re.sub("<svg.*?</svg>", "", page, flags=re.S))
    return set(parser.tags)


def fill(folder, header, rows, run=RUN, unguided=(), path=(), looks=()):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run))
    for i in range(2):
        (folder / "samples").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / "samples" / f"0000{i}.png")
    write_csv(folder / "samples.csv", [header, *rows])
    if unguided:
        write_csv(folder / "unguided.csv", [header, *unguided])
    if path:
        write_csv(folder / "path.csv", path)
    if looks:
        (folder / "path").mkdir(exist_ok=True)
        write_csv(folder / "path" / "steps.csv", looks)
    return write_report(folder).read_text(encoding="utf-8")


@pytest.mark.parametrize("modality", SAMPLES)
def test_every_cell_is_escaped(tmp_path, modality):
    rows = [[EVIL, EVIL, sample, i, EVIL, EVIL, EVIL, EVIL, EVIL] for i, sample in enumerate(SAMPLES[modality])]
    evil = ["request", "seed", "sample", "reward", "preview", f"{EVIL}_raw", EVIL, "gc_raw", "gc"]
    looks = [["step", "value", "sample"], [EVIL, EVIL, "path/001.png"], ["1", "2", EVIL]]
    run = copy.deepcopy(RUN)
    run |= {"reward_name": EVIL, "command": EVIL, "versions": {EVIL: EVIL}}
    run["config"] |= {"model": EVIL, "sampler": {"name": EVIL, EVIL: EVIL}, "prompt": EVIL, "device": EVIL}
    path = [["batch", "step", "mean", "best"], [EVIL, 1, 1, 2], [0, 2, 1, 2], [0, EVIL, 3, 4]]
    page = fill(tmp_path, evil, rows, run, unguided=rows, path=path, looks=looks)
    assert "script" not in tags(page) and "&lt;script&gt;" in page


@pytest.mark.parametrize("modality", SAMPLES)
@pytest.mark.parametrize("missing", HEADER)
def test_a_column_may_be_missing(tmp_path, modality, missing):
    rows = [[i, 0, sample, i, 0.5, 1, 1, 1, 1] for i, sample in enumerate(SAMPLES[modality])]
    at = HEADER.index(missing)
    cut = [[cell for j, cell in enumerate(row) if j != at] for row in [HEADER, *rows]]
    page = fill(tmp_path, cut[0], cut[1:], unguided=cut[1:], looks=[["step"], ["1"]], path=[["batch", "mean"], [0, 1]])
    assert "</html>" in page
    if missing == "request":
        assert not re.search("#(<|None)", page)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(NUMBERS), min_size=7, max_size=7),
    st.sampled_from(sorted(SAMPLES)),
)
def test_a_number_may_be_anything(tmp_path, cells, modality):
    request, seed, *rest = cells
    rows = [[request, seed, sample, *rest, 1] for sample in SAMPLES[modality]]
    path = [["batch", "step", "mean", "best"], cells[:4], cells[3:]]
    assert "</html>" in fill(tmp_path, HEADER, rows, unguided=rows, path=path, looks=[["step", "value"], cells[:2]])


def test_only_unguided_samples_are_no_samples(tmp_path):
    for samples in SAMPLES.values():
        assert "</html>" in fill(tmp_path, HEADER, [], unguided=[[0, 0, samples[0], 1, 1, 1, 1, 1, 1]])


def test_numbers_are_digits_or_not_at_all():
    assert whole_number("17") == 17
    assert [whole_number(text) for text in ("-1", "1.0", "", None, "١", "1" * 30, "a")] == [None] * 7
    assert number("1e200") == float("inf") and number("-1e200") == -float("inf") and number("2.5") == 2.5


def test_a_reward_that_is_no_number_is_the_worst():
    rows = [{"sample": s, "reward": r} for s, r in (("a", "x"), ("b", "1"), ("c", "-inf"), ("d", "3"))]
    assert [row["sample"] for row in best_rows(rows, 2)] == ["d", "b"]


def test_a_prompt_is_that_of_the_request_or_none():
    run = {"config": {"prompt": ["a", 2]}}
    assert [prompt_of(run, request) for request in (0, 1, 2, None)] == ["a", "2", None, None]
    assert prompt_of({"config": {"prompt": 207}}, None) == "207" and prompt_of({"config": {}}, 0) is None


def test_an_image_in_memory_has_no_file(tmp_path):
    run = copy.deepcopy(RUN)
    run["config"] |= {"image": {"object": "Image", "sha256": None}, "strength": 0.5}
    assert "from an image in memory · strength 0.5" in fill(tmp_path, HEADER, [], run)


@pytest.mark.parametrize(
    ("entry", "content", "message"),
    [
        ("stats", None, "stats is None"),
        ("stats", "much", "stats is 'much'"),
        ("config", {}, "config.model is missing"),
        ("versions", {"torch": 2}, "versions.torch is 2; it must be a valid string"),
        ("reward_name", ["a"], r"reward_name is \['a'\]"),
    ],
)
def test_a_record_that_is_none_is_refused_in_a_line(tmp_path, entry, content, message):
    with pytest.raises(GuidedError, match=message) as error:
        fill(tmp_path, HEADER, [], RUN | {entry: content})
    assert "run.json' is no record of a run" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_no_csv_is_refused_in_a_line(tmp_path, monkeypatch):
    def broken(path):
        raise csv.Error("field larger than field limit")

    fill(tmp_path, HEADER, [])
    monkeypatch.setattr("guided.report.rows.read_rows", broken)
    with pytest.raises(GuidedError, match=r"samples.csv' is no CSV file"):
        write_report(tmp_path)


def test_a_pipe_in_place_of_an_image_does_not_hang(tmp_path):
    fill(tmp_path, HEADER, [[0, 0, "samples/00000.png", 1, 1, 1, 1, 1, 1]])
    (tmp_path / "samples" / "00000.png").unlink()
    os.mkfifo(tmp_path / "samples" / "00000.png")
    assert "samples/00000.png cannot be read" in write_report(tmp_path).read_text()


def test_surrogates_of_file_names_do_not_lose_the_page(tmp_path):
    page = fill(
        tmp_path, HEADER, [[0, 0, "a", 1, 1, 1, 1, 1, 1]], RUN | {"command": "a\udce9", "reward_name": "\ud800"}
    )
    assert "<pre>a?</pre>" in page


def test_no_cell_makes_a_line_of_its_own_in_fasta(tmp_path):
    run = copy.deepcopy(RUN)
    run["config"]["prompt"] = ["a\u2028>b\x1b[31m\x00c"]
    fill(tmp_path, HEADER[:4], [[0, "1\n>x\nAAAA", "ACGT", "2"], ["9\n>y", 0, "GG", 1]], run)
    lines = write_fasta(tmp_path).read_text().splitlines()
    assert lines == [
        ">request_0 seed=1 >x AAAA reward=2 prompt=a >b[31mc",
        "ACGT",
        ">request_9 >y seed=0 reward=1",
        "GG",
    ]
