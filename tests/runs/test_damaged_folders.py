"""A damaged run folder: one line with the file and the entry, when it is resumed, opened, or read for its options."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import guided
from guided.errors import GuidedError
from guided.runs.files import assembled, read_options
from tests.toys.small import tokens

DEEP = "[" * 100_000 + "]" * 100_000


def many_a(samples):
    return [float(sample.count("A")) for sample in samples]


def draw(folder: Path) -> Any:
    return guided.sample(tokens(), many_a, "best-of-n", n=4, batch_size=2, out=folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    draw(folder)
    return folder


@pytest.fixture
def half(whole, tmp_path):
    """A run that was stopped after its first batch."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    lines = (folder / "samples.csv").read_text().splitlines(keepends=True)
    (folder / "samples.csv").write_text("".join(lines[:3]))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "requests_done": 2}))
    return folder


def refused(call: Any, *words: str) -> None:
    with pytest.raises(GuidedError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said and len(said) < 700 and all(word in said for word in words), said


NO_RECORD = ["", "{", "[]", "5", "null", DEEP, "\x00" * 9, '{"config": 5}', '{"config": null}', "{}"]


@pytest.mark.parametrize("text", NO_RECORD, ids=[text[:20] for text in NO_RECORD])
def test_what_is_no_record_is_named(half, text):
    (half / "run.json").write_text(text)
    refused(lambda: draw(half), "run.json")
    refused(lambda: guided.open_run(half), "run.json")


STATS = [None, "x", [], 5, {"seconds": 5}, {"seconds": None}, {"seconds": {"total": "x"}}, {"seconds": {"total": None}}]
STATS += [{name: entry} for name in ("network_rows", "network_calls", "reward_calls") for entry in ("x", None, -1, [1])]


@pytest.mark.parametrize("stats", STATS, ids=map(str, STATS))
def test_a_wrong_cost_is_named(half, stats):
    record = json.loads((half / "run.json").read_text())
    (half / "run.json").write_text(json.dumps({**record, "stats": stats}))
    refused(lambda: draw(half), "run.json", "stats")
    refused(lambda: guided.open_run(half), "run.json", "stats")


@pytest.mark.parametrize("entry", ["requests_done", "before"])
@pytest.mark.parametrize("value", ["x", -1, [1]])
def test_a_wrong_count_is_named(half, entry, value):
    record = json.loads((half / "run.json").read_text())
    (half / "run.json").write_text(json.dumps({**record, entry: value}))
    refused(lambda: draw(half), "run.json", entry)


@pytest.mark.parametrize("reward", ["x", 5, [], {"terms": 5}, {"terms": [5]}, {"terms": [{"reward": 5}]}])
def test_another_reward_is_told_in_a_line(half, reward):
    record = json.loads((half / "run.json").read_text())
    (half / "run.json").write_text(json.dumps({**record, "config": {**record["config"], "reward": reward}}))
    refused(lambda: draw(half), "holds another run: reward")


@pytest.mark.parametrize("column", ["reward", "reward_calls", "network_rows", "request"])
@pytest.mark.parametrize("cell", ["x", "", "9" * 5000, "1e5x"])
def test_a_cell_that_is_no_number_is_named(half, column, cell):
    header, *rows = [line.split(",") for line in (half / "samples.csv").read_text().splitlines()]
    rows[-1][header.index(column)] = cell
    (half / "samples.csv").write_text("\n".join(map(",".join, [header, *rows])) + "\n")
    if not (column == "reward" and cell.isdigit()):  # it is a number
        refused(lambda: draw(half), "samples.csv")
    if column == "reward" and not cell.isdigit():
        refused(lambda: guided.open_run(half), "samples.csv", "reward")


@pytest.mark.parametrize("row", ["x,1,2,3", "0,x,2,3", "0,1,x,3", "0,1,2,", f"{'9' * 5000},1,2,3"])
def test_a_cell_of_the_path_is_named_or_dropped(half, row):
    (half / "path.csv").write_text(f"batch,step,mean,best\n{row}\n")
    refused(lambda: guided.open_run(half), "path.csv")
    shutil.copytree(half, half.parent / "other")
    try:
        draw(half)
    except GuidedError as error:
        assert "path.csv" in str(error)


OPTIONS = [("options", 5, "options"), ("options", None, "options"), ("folder", 5, "")]
OPTIONS += [("options", {"model": "rna", "sampler": entry}, "sampler is") for entry in (5, [1], True)]
OPTIONS += [("options", {"model": "rna", "prompt": [5]}, "prompt[0] is 5")]


@pytest.mark.parametrize(("entry", "value", "word"), OPTIONS, ids=[f"{a}={b}" for a, b, _ in OPTIONS])
def test_options_of_a_damaged_record(half, entry, value, word):
    record = json.loads((half / "run.json").read_text())
    (half / "run.json").write_text(json.dumps({**record, entry: value}))
    if word:
        refused(lambda: assembled({"config": half / "run.json", "model": "rna"}), word)
    else:
        read_options(half / "run.json")


WRONG = [
    f"a = {DEEP}",
    "sampler = 5",
    "sampler = [1]",
    "set = 5",
    "set = [5]",
    "prompts = 5",
    "value = 5",
    'prompts = "a\\u0000b"',
]


@pytest.mark.parametrize("text", WRONG, ids=[text[:20] for text in WRONG])
def test_a_file_of_options_with_wrong_ones_is_told_in_a_line(tmp_path, text):
    file = tmp_path / "options.toml"
    file.write_text(f'model = "rna"\nreward = "gc"\n{text}\n')
    refused(lambda: assembled({"config": file}), text.split()[0] if len(text) < 99 else "options.toml")


def test_calls_are_counted_once_wherever_a_run_was_killed(whole, tmp_path, monkeypatch):
    """The count is written before the samples that it belongs to, and with the one before it."""
    expected = json.loads((whole / "run.json").read_text())["stats"]
    for stop in range(12):
        folder, left = tmp_path / str(stop), [stop]

        def kill(handle, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", kill)
            with suppress(KeyboardInterrupt):
                draw(folder)
        draw(folder)
        stats = json.loads((folder / "run.json").read_text())["stats"]
        counts = {name: count for name, count in stats.items() if name != "seconds"}
        assert counts == {name: expected[name] for name in counts}, stop
        assert (folder / "samples.csv").read_bytes() == (whole / "samples.csv").read_bytes()
