"""Pipelines of sound: what a reward is given, what a run's folder holds, and that it goes on after an interrupt."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import guided
from guided.adapters.diffusers.loops.decoding import Sounds
from guided.core.batching import Evaluator
from guided.core.random import Streams
from guided.core.sound import Sound, from_wav
from guided.errors import GuidedError
from guided.metrics.buckets import bucket
from guided.samplers import SVDD
from guided.storage import read_rows
from tests.adapters.diffusers.loops.cases import CASES
from tests.adapters.diffusers.loops.own import model_of

#: The sampling rate of each, and the shape of a sound.
SOUNDS = {"stable-audio": (4, (2, 7)), "audioldm2": (1000, (1, 64))}
every = pytest.mark.parametrize("name", SOUNDS)


def model(name: str) -> Any:
    return model_of(CASES[name], CASES[name].build(), eta=1.0)


def level(sounds: list[Sound]) -> list[float]:
    assert all(isinstance(sound, np.ndarray) and sound.rate > 0 for sound in sounds)
    return [float(np.sqrt(np.mean(sound**2))) for sound in sounds]


def draw(given: Any, reward: Any = level, **options: Any) -> Any:
    return guided.sample(given, reward, SVDD(M=2), **{"n": 3, "prompt": "red apple", "batch_size": 2, **options})


@every
def test_sounds_are_files_with_their_rate(name: str, tmp_path: Path) -> None:
    rate, shape = SOUNDS[name]
    run = draw(model(name), out=tmp_path, report=True)
    rows = read_rows(tmp_path / "samples.csv")
    assert [row["sample"] for row in rows] == [f"samples/{i:05d}.wav" for i in range(3)]
    alone = draw(model(name))
    for row, drawn, sound in zip(rows, alone.samples, guided.open_run(tmp_path).samples, strict=True):
        file = from_wav((tmp_path / row["sample"]).read_bytes())
        assert (file.rate, file.shape) == (rate, shape) == (drawn.rate, drawn.shape)
        assert np.array_equal(file, sound)
        assert np.abs(file - np.clip(drawn, -1, 1)).max() <= 0.51 / 32767
    assert run.rewards.tolist() == alone.rewards.tolist() == pytest.approx(level(alone.samples))
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<audio ") == 3 + 2 * 3


def test_a_run_that_was_interrupted_goes_on_to_the_same_files(tmp_path: Path) -> None:
    calls: list[int] = []

    def stopped(sounds: list[Sound]) -> list[float]:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return level(sounds)

    given = model("stable-audio")
    draw(given, out=tmp_path / "whole", trust_rewards=True)
    with pytest.raises(KeyboardInterrupt):
        draw(given, stopped, out=tmp_path / "torn", batch_size=1, trust_rewards=True)
    assert not [thread for thread in threading.enumerate() if thread.name == "pipeline"]
    kept = len(read_rows(tmp_path / "torn" / "samples.csv"))
    assert 1 <= kept < 3
    calls.extend([1] * 10)
    draw(given, stopped, out=tmp_path / "torn", batch_size=1, trust_rewards=True)
    for i in range(3):
        name = f"samples/{i:05d}.wav"
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_sounds_that_are_not_finite_are_told() -> None:
    given = model("stable-audio")
    rows = given.start(Streams(0, range(1))).x[:, 0] * float("nan")
    with pytest.raises(GuidedError, match="sounds that are not finite"):
        given.decode(rows)


def test_a_pipeline_without_a_sampling_rate_says_so() -> None:
    part = SimpleNamespace(config=SimpleNamespace(sampling_rate=None))
    with pytest.raises(GuidedError, match="SimpleNamespace has no vocoder or vae with a sampling_rate"):
        Sounds(SimpleNamespace(pipeline=SimpleNamespace(vae=part)), Evaluator())  # type: ignore[arg-type]


def test_sounds_are_too_much_alike_by_their_signs() -> None:
    assert bucket("audio")(Sound([0.5, -0.5], 4)) == bucket("audio")(Sound([0.1, -0.2], 4))
