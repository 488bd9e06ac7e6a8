"""The report of sounds: they can be listened to, in the page as far as it stays small, and nothing else is opened."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from guided.core.sound import Sound, from_wav, to_wav
from guided.report import sounds, write_report
from guided.report.thumbnails import is_image, is_sound
from guided.storage import write_csv

STATS = {"network_rows": 9, "network_calls": 9, "reward_calls": 9, "seconds": {"total": 1.0}}
CONFIG = {"model": "audio", "sampler": {"name": "svdd"}, "seed": 0, "steps": 50, "device": "cpu", "n": 3}
PLAYED = re.compile(r'<audio controls preload="none" src="([^"]*)" aria-label="([^"]*)"></audio>')


def tone(i: int) -> Sound:
    return Sound(np.sin(np.arange(400) * 0.01 * (i + 1)), 8000)


def fill(folder: Path, n: int = 3, unguided: int = 0) -> str:
    (folder / "run.json").write_text(json.dumps({"config": CONFIG, "reward_name": "loud", "stats": STATS}))
    for name, count, first in (("samples", n, 0), ("unguided", unguided, 100)):
        (folder / name).mkdir(exist_ok=True)
        rows = [[i, 0, f"{name}/{i:05d}.wav", first + i] for i in range(count)]
        for i in range(count):
            (folder / name / f"{i:05d}.wav").write_bytes(to_wav(tone(first + i)))
        if count:
            write_csv(folder / f"{name}.csv", [["request", "seed", "sample", "reward"], *rows])
    return write_report(folder).read_text(encoding="utf-8")


def held(place: str) -> Sound:
    return from_wav(base64.b64decode(place.removeprefix("data:audio/wav;base64,")))


def test_the_best_come_first_and_each_request_beside_the_unguided_one(tmp_path: Path) -> None:
    page = fill(tmp_path, 3, 2)
    played = [place for place, _ in PLAYED.findall(page)]
    wanted = [2, 1, 0, 100, 0, 101, 1, 2]
    assert len(played) == len(wanted) and page.count("<polygon ") == len(wanted)
    for place, i in zip(played, wanted, strict=True):
        assert np.array_equal(held(place), from_wav(to_wav(tone(i))))
    assert "Best sounds" in page and "distinct samples" in page


def test_a_page_stays_small_and_the_rest_is_played_from_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sounds, "ENOUGH", 2 * len(to_wav(tone(0))))
    played = [place for place, _ in PLAYED.findall(fill(tmp_path))]
    assert [place.startswith("data:") for place in played] == [True, True, False, False, False, False]
    assert played[2:] == ["samples/00000.wav", "samples/00000.wav", "samples/00001.wav", "samples/00002.wav"]


def test_a_torn_or_missing_file_is_told(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "samples" / "00000.wav").write_bytes(to_wav(tone(0))[:20])
    (tmp_path / "samples" / "00001.wav").unlink()
    (tmp_path / "samples" / "00002.wav").write_bytes(to_wav(Sound(np.zeros((1, 0)), 4)))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("cannot be read") == 6 and not PLAYED.findall(page)


@pytest.mark.parametrize(
    "sample",
    ["samples/../../etc/00000.wav", '"><script>', "samples/00000.wav\n", "/samples/00000.wav", "other/00000.wav"],
)
def test_only_files_of_a_run_are_sounds(sample: str) -> None:
    assert not is_sound([{"sample": sample}]) and not is_image([{"sample": "samples/00000.wav"}])
    assert is_sound([{"sample": "samples/00000.wav"}])


def test_the_envelope_is_that_of_the_loudest_amplitudes() -> None:
    low, high = sounds._extremes(to_wav(Sound([[0.0] * 800, [0.25] * 400 + [-0.5] * 400], 8000)))
    assert high[: len(high) // 2] == pytest.approx(0.25, abs=1e-4) and high[len(high) // 2 :] == pytest.approx(
        0, abs=1e-4
    )
    assert low[: len(low) // 2] == pytest.approx(0, abs=1e-4) and low[len(low) // 2 :] == pytest.approx(-0.5, abs=1e-4)
