"""Images of a run folder: exact, whole or absent, before their line; a kill leaves nothing behind that stays."""

import io
import json
import math
import os

import numpy as np
import pytest
from PIL import Image

from guided.errors import GuidedError
from guided.runs.engine import Batch, Stats
from guided.runs.folder import RunFolder
from guided.runs.media import encoded, file_name, stored
from guided.storage import read_rows

CONFIG = {"model": "toy", "n": 5, "seed": 7, "batch_size": 2}


def image(i, size=(6, 5)):
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8))


def batch(requests, make=image):
    rewards = [float(i) for i in requests]
    return Batch(requests, [make(i) for i in requests], rewards, {"reward": rewards}, Stats(10 * len(requests)), [])


def fill(path, stop=5, config=CONFIG, make=image):
    with RunFolder(path, config, {}) as folder:
        for start in range(folder.done, min(stop, config["n"]), 2):
            folder.append(batch(list(range(start, min(start + 2, config["n"]))), make))


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_pictures_come_back_exactly_by_the_paths_in_the_file(tmp_path):
    fill(tmp_path)
    rows = read_rows(tmp_path / "samples.csv")
    assert [row["sample"] for row in rows] == [f"samples/0000{i}.png" for i in range(5)]
    for i, row in enumerate(rows):
        assert np.array_equal(np.array(Image.open(tmp_path / row["sample"])), np.array(image(i)))
    assert {file.name for file in (tmp_path / "samples").iterdir()} == {f"0000{i}.png" for i in range(5)}


def test_videos_are_webp_whose_frames_come_back_exactly_as_long_as_they_were(tmp_path):
    shown = [0, 0, 1, 2, 2, 2]
    fill(tmp_path, make=lambda i: [image(frame + i) for frame in shown])
    [*rows] = read_rows(tmp_path / "samples.csv")
    assert rows[3]["sample"] == "samples/00003.webp"
    video = Image.open(tmp_path / "samples" / "00003.webp")
    frames = []
    for k in range(video.n_frames):
        video.seek(k)
        array = np.array(video.convert("RGB"))
        frames += [array] * round(video.info["duration"] / 125)
    assert len(frames) == 6
    assert all(np.array_equal(frame, np.array(image(i + 3))) for frame, i in zip(frames, shown, strict=True))


@pytest.mark.parametrize("sample", ["CCO", 3.0, [], ["a"], np.zeros((3, 4, 4))])
def test_other_samples_are_no_pictures(sample, tmp_path):
    assert file_name("00000", sample) is None
    other = Batch([0], [sample], [0.0], {}, Stats(), [])
    assert stored(other, tmp_path) is other and not files(tmp_path)


def test_a_picture_is_there_before_its_line(tmp_path, monkeypatch):
    """Killed at any sync, the run goes on to the same files, and every line has its image."""
    fill(tmp_path / "whole")
    expected = files(tmp_path / "whole")
    sync, syncs = os.fsync, 0
    for killed in range(100):

        def fsync(handle, killed=killed):
            nonlocal syncs
            syncs += 1
            if syncs > killed:
                raise KeyboardInterrupt
            sync(handle)

        torn, syncs = tmp_path / str(killed), 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            try:
                fill(torn)
            except KeyboardInterrupt:
                pass
            else:
                break
        rows = read_rows(torn / "samples.csv")
        assert all((torn / row["sample"]).read_bytes() == expected[row["sample"]] for row in rows)
        fill(torn)
        assert {name: data for name, data in files(torn).items() if name != "run.json"} == {
            name: data for name, data in expected.items() if name != "run.json"
        }
    assert killed > 10


def test_what_a_kill_left_of_an_unfinished_batch_is_dropped_when_the_run_goes_on(tmp_path):
    fill(tmp_path, stop=2)
    for name in ("00001.png.part", "00003.png", "00004.png.part", "00123.png"):
        (tmp_path / "samples" / name).write_bytes(b"torn")
    (tmp_path / "samples" / "mine.png").write_bytes(b"mine")
    fill(tmp_path)
    names = {file.name for file in (tmp_path / "samples").iterdir()}
    assert names == {*(f"0000{i}.png" for i in range(5)), "mine.png"}
    assert Image.open(tmp_path / "samples" / "00003.png").size == image(3).size


def test_pictures_of_another_run_that_never_had_a_line_are_not_taken_along(tmp_path):
    fill(tmp_path, stop=0)
    stored(batch([0, 1, 2, 3, 4]), tmp_path)
    fill(tmp_path, config={**CONFIG, "n": 2})
    assert {file.name for file in (tmp_path / "samples").iterdir()} == {"00000.png", "00001.png"}


def test_pictures_of_nobody_are_not_touched(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "00001.png").write_bytes(b"mine")
    with pytest.raises(GuidedError, match=r"holds samples/00001\.png but no run\.json"):
        fill(tmp_path)
    assert files(tmp_path) == {"samples/00001.png": b"mine"}


def test_a_finished_folder_keeps_its_pictures(tmp_path):
    fill(tmp_path)
    before = files(tmp_path)
    fill(tmp_path)
    assert files(tmp_path) == before


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    fill(tmp_path, stop=2)
    with monkeypatch.context() as patch, pytest.raises(GuidedError, match="No space left on device"):
        patch.setattr("os.fsync", full)
        fill(tmp_path)
    assert len(read_rows(tmp_path / "samples.csv")) == 2


def test_bytes_do_not_hang_on_what_was_written_before():
    assert encoded(image(1)) == encoded(image(1)) != encoded(image(2))
    assert Image.open(io.BytesIO(encoded(image(1).convert("L")))).mode == "L"


def test_rewards_that_failed_do_not_keep_a_picture_out(tmp_path):
    failed = Batch([0, 1], [image(0), image(1)], [-math.inf] * 2, {"reward": [-math.inf] * 2}, Stats(), [])
    with RunFolder(tmp_path, {**CONFIG, "n": 2}, {}) as folder:
        folder.append(failed)
    assert json.loads((tmp_path / "run.json").read_text())["summary"]["failed"] == 2
    assert len(files(tmp_path / "samples")) == 2
