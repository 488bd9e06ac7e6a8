"""The run folder: batches are whole or absent, floats come back exactly, and nothing that is not ours is touched."""

import json
import math

import pytest

from guided.errors import GuidedError
from guided.report.record import Stored, read_record
from guided.runs.engine import Batch, Stats, StepValue
from guided.runs.folder import RunFolder, summary
from guided.storage import csv_text, read_csv, read_rows, write_whole

CONFIG = {"model": "toy", "sampler": {"name": "svdd", "M": (2, 3)}, "n": 5, "seed": 7, "batch_size": 2}
SAMPLES = ["CCO", 'a "quoted", one', "two\nlines", "naïve ☃", ""]
REWARDS = [0.1 + 0.2, -math.inf, 1e-300, 1 / 3, 5e22]


def batch(requests):
    rewards = [REWARDS[i] for i in requests]
    columns = {"r_raw": [2 * r for r in rewards], "r": rewards, "reward": rewards}
    stats = Stats(10 * len(requests), 1, 3, {"network": 0.5, "total": 1.0})
    path = [StepValue(1, 0.25, 0.5), StepValue(2, math.nan, math.nan)]
    return Batch(requests, [SAMPLES[i] for i in requests], rewards, columns, stats, path)


def fill(path, stop=5):
    with RunFolder(path, CONFIG, {"command": "guided"}) as folder:
        for start in range(folder.done, stop, 2):
            folder.append(batch(list(range(start, min(start + 2, 5)))))
        return folder


def test_what_is_written_comes_back(tmp_path):
    fill(tmp_path)
    rows = read_rows(tmp_path / "samples.csv")
    assert [row["sample"] for row in rows] == SAMPLES
    assert [float(row["reward"]) for row in rows] == REWARDS
    assert [int(row["network_rows"]) for row in rows] == [20, 20, 40, 40, 50]
    assert [int(row["reward_calls"]) for row in rows] == [3, 3, 6, 6, 9]
    assert [row["batch"] for row in read_rows(tmp_path / "path.csv")] == ["0", "0", "1", "1", "2", "2"]
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["requests_done"] == 5 and run["stats"]["seconds"] == {"network": 1.5, "total": 3.0}
    assert run["summary"]["failed"] == 1 and run["summary"]["max"] == 5e22


def test_every_prefix_of_the_file_resumes_to_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)  # there are many of them
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    fill(whole)
    expected = (whole / "samples.csv").read_bytes()
    fill(torn)
    run = (torn / "run.json").read_text()
    for kept in range(len(expected) + 1):
        (torn / "samples.csv").write_bytes(expected[:kept])
        (torn / "run.json").write_text(run)
        folder = fill(torn)
        assert (torn / "samples.csv").read_bytes() == expected, kept
        assert (torn / "path.csv").read_bytes() == (whole / "path.csv").read_bytes(), kept
        assert (folder.stats.network_rows, folder.stats.reward_calls) == (50, 9)


@pytest.mark.parametrize("text", ["", "\n\n", "request,se", "request,seed\n", 'request,seed,sample\n0,7,"CC\n'])
def test_what_a_kill_leaves_is_drawn_again(tmp_path, text):
    fill(tmp_path)
    expected = (tmp_path / "samples.csv").read_bytes()
    (tmp_path / "samples.csv").write_text(text)
    with RunFolder(tmp_path, CONFIG, {}) as folder:
        assert folder.done == 0 and folder.missing == [0, 1, 2, 3, 4]
    fill(tmp_path)
    assert (tmp_path / "samples.csv").read_bytes() == expected


def spreadsheet(rows):
    """Saved with another separator."""
    return "\n".join(";".join(row) for row in rows) + "\n"


EDITS = {
    "sorted": (lambda rows: csv_text([rows[0], *sorted(rows[1:], key=lambda r: -float(r[3]))]), "row 1 is '4,7,"),
    "reversed": (lambda rows: csv_text([rows[0], *rows[:0:-1]]), "row 1 is '4,7,"),
    "separator": (spreadsheet, "the header is 'request;seed;sample;"),
    "a line taken out": (lambda rows: csv_text([*rows[:2], *rows[3:]]), "row 2 is '2,7,"),
    "no header": (lambda rows: csv_text(rows[1:]), "the header is '0,7,CCO,"),
    "a line twice": (lambda rows: csv_text([*rows[:3], *rows[2:]]), "row 3 is '1,7,"),
    "another line": (lambda rows: csv_text([*rows, ["5", *rows[1][1:]]]), "row 6 is '5,7,"),
    "a column taken out": (lambda rows: csv_text([rows[0], rows[1][:-1], *rows[2:]]), "row 1 is 'a row of 7 cells'"),
    "another seed": (lambda rows: csv_text([rows[0], ["0", "8", *rows[1][2:]], *rows[2:]]), "row 1 is '0,8,"),
    "nobody's": (lambda rows: "0,1\n1,1\n", "the header is '0,1'"),
    "text after a quote": (lambda rows: csv_text(rows).replace('one"', 'one"x'), "row 2 is 'a row of 9 cells'"),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("stop", [4, 5])
def test_samples_that_were_edited_are_refused_and_stay_as_they_are(tmp_path, edit, stop):
    """Of a run that is finished, and of one that is not: edited files are never overwritten."""
    fill(tmp_path, stop)
    change, expected = EDITS[edit]
    if stop == 4 and edit in ("sorted", "reversed", "another line"):
        return  # other numbers
    header, rows = read_csv(tmp_path / "samples.csv")
    (tmp_path / "samples.csv").write_text(change([header, *rows]), newline="")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(GuidedError) as error:
        fill(tmp_path)
    assert "samples.csv' is not as the run left it: " + expected in str(error.value) and "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("stop", [2, 5])
def test_a_byte_order_mark_and_other_line_ends_are_read(tmp_path, stop):
    """As editors leave them: the run goes on, and its samples are the same."""
    fill(tmp_path / "whole")
    fill(tmp_path / "a", stop)
    file = tmp_path / "a" / "samples.csv"
    marked = b"\xef\xbb\xbf" + file.read_bytes()
    file.write_bytes(marked)
    folder = fill(tmp_path / "a")
    assert folder.done == 5 and file.read_bytes().startswith(marked) == (stop == 5)
    assert read_rows(file) == read_rows(tmp_path / "whole" / "samples.csv")


def test_samples_that_are_taken_away_during_a_run_are_one_clear_error(tmp_path):
    with RunFolder(tmp_path, CONFIG, {}) as folder:
        folder.append(batch([0, 1]))
        (tmp_path / "samples.csv").unlink()
        with pytest.raises(GuidedError, match="cannot write to the folder"):
            folder.append(batch([2, 3]))
    assert not (tmp_path / "samples.csv").exists()


@pytest.mark.parametrize("name", ["samples", "samples.csv", "path.csv", "run.json", "progress.json"])
def test_a_link_out_of_the_folder_is_refused(tmp_path, name):
    other = tmp_path / "other"
    other.mkdir()
    (other / "00000.png").write_bytes(b"mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).symlink_to(other if name == "samples" else other / "00000.png")
    with pytest.raises(GuidedError, match="is a link out of its folder"):
        fill(folder)
    assert (other / "00000.png").read_bytes() == b"mine" and len(list(other.iterdir())) == 1


def test_a_kill_between_the_last_batch_and_run_json_leaves_nothing_out(tmp_path):
    with RunFolder(tmp_path, CONFIG, {}) as folder:
        for start in (0, 2):
            folder.append(batch([start, start + 1]))
        early = (tmp_path / "run.json").read_text()
        folder.append(batch([4]))
    (tmp_path / "run.json").write_text(early)
    with RunFolder(tmp_path, CONFIG, {}) as folder:
        assert folder.missing == []
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["requests_done"] == 5 and run["stats"]["network_rows"] == 50 and "summary" in run


def test_what_is_long_is_written_once_and_not_at_every_batch(tmp_path):
    """A run may have 20,000 prompts: the record of a batch has the counts only."""
    with RunFolder(tmp_path, {**CONFIG, "prompt": ["a cat"] * 5}, {}) as folder:
        first = (tmp_path / "run.json").stat().st_ino
        for start in (0, 2):
            folder.append(batch([start, start + 1]))
            assert (tmp_path / "run.json").stat().st_ino == first
            assert "a cat" not in (tmp_path / "progress.json").read_text()
        assert read_record(tmp_path / "run.json", Stored)[1].stats.network_rows == 40
        folder.append(batch([4]))
    assert not (tmp_path / "progress.json").exists()
    assert read_record(tmp_path / "run.json", Stored)[1].requests_done == 5


@pytest.mark.parametrize("lines", [3, 5], ids=["before the samples", "after the samples"])
@pytest.mark.parametrize("former", [False, True], ids=["counts apart", "counts in run.json"])
def test_a_kill_at_a_batch_leaves_the_right_cost(tmp_path, former, lines):
    """The counts are written before the samples; a former version wrote both into `run.json`."""
    with RunFolder(tmp_path, {**CONFIG, "batch_size": 1}, {}) as folder:
        for i in range(lines - 1):
            folder.append(batch([i]))
        calls, written = folder.stats.network_calls, (tmp_path / "samples.csv").read_bytes()
        folder.append(batch([lines - 1]))
    (tmp_path / "samples.csv").write_bytes(written)
    if former:
        counts = tmp_path / "progress.json"
        later = json.loads(counts.read_text()) if counts.exists() else {}
        write_whole(tmp_path / "run.json", json.dumps(json.loads((tmp_path / "run.json").read_text()) | later))
        counts.unlink(missing_ok=True)
    with RunFolder(tmp_path, {**CONFIG, "batch_size": 1}, {}) as folder:
        assert folder.stats.network_calls == calls + (lines == 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 8}, "seed is 7 there and 8 here"),
        ({"sampler": {"name": "svdd", "M": (2, 4)}}, "sampler.M[1] is 3 there and 4 here"),
        ({"sampler": {"name": "svdd", "M": 2}}, "sampler.M is [2, 3] there and 2 here"),
        ({"prompt": "a cat"}, 'prompt is null there and "a cat" here'),
        ({"n": 6, "seed": 8}, "n is 5 there and 6 here"),
    ],
)
def test_another_configuration_is_refused_by_its_first_difference(tmp_path, change, message):
    fill(tmp_path, stop=2)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(GuidedError) as error, RunFolder(tmp_path, CONFIG | change, {}):
        pass
    assert message in str(error.value) and "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    fill(tmp_path)  # the folder was let go


def test_samples_of_nobody_and_a_broken_run_json_are_refused(tmp_path):
    (tmp_path / "samples.csv").write_text("mine\n")
    with pytest.raises(GuidedError, match=r"no run\.json"):
        fill(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(GuidedError, match="not JSON"):
        fill(tmp_path)
    assert (tmp_path / "samples.csv").read_text() == "mine\n"


def test_a_folder_in_use_is_refused(tmp_path):
    with RunFolder(tmp_path, CONFIG, {}):
        with pytest.raises(GuidedError, match="another process"):
            fill(tmp_path)
        with RunFolder(tmp_path, CONFIG, {}, aside=True):
            pass
    fill(tmp_path)


def test_a_folder_below_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GuidedError, match="cannot write to the folder"):
        fill(tmp_path / "file" / "a")


def test_a_full_disk_is_one_clear_error_and_the_run_resumes(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    fill(tmp_path / "whole")
    fill(tmp_path / "a", stop=2)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(GuidedError, match="No space left on device"):
            fill(tmp_path / "a")
    fill(tmp_path / "a")
    assert (tmp_path / "a" / "samples.csv").read_bytes() == (tmp_path / "whole" / "samples.csv").read_bytes()


def test_other_columns_are_refused(tmp_path):
    with RunFolder(tmp_path, CONFIG, {}) as folder:
        folder.append(batch([0, 1]))
        other = batch([2, 3])
        with pytest.raises(GuidedError, match="columns"):
            folder.append(
                Batch(other.requests, other.samples, other.rewards, {"reward": other.rewards}, other.stats, [])
            )


def test_summary_leaves_failed_rewards_out():
    assert summary([]) == {"rewards": 0, "failed": 0}
    assert summary([-math.inf]) == {"rewards": 1, "failed": 1}
    one = summary([2.0, -math.inf])
    assert one["median"] == one["q05"] == one["q95"] == one["mean"] == 2.0
    found = summary([float(i) for i in range(101)])
    assert [found[name] for name in ("q05", "q25", "median", "q75", "q95")] == [5, 25, 50, 75, 95]


def test_write_whole_keeps_the_old_file_until_the_new_one_is_there(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", "old")

    def killed(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"


def test_a_file_that_is_not_there_has_no_rows(tmp_path):
    assert read_csv(tmp_path / "none") == ([], [])


def test_a_folder_that_holds_no_sample_yet_is_anybodys(tmp_path):
    """A command that was refused before its first sample does not keep the corrected one out."""
    with RunFolder(tmp_path, {**CONFIG, "prompt": None}, {}):
        pass
    with RunFolder(tmp_path, {**CONFIG, "prompt": "HepG2"}, {}) as folder:
        assert folder.done == 0
    assert json.loads((tmp_path / "run.json").read_text())["config"]["prompt"] == "HepG2"
