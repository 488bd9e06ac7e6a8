"""What fits and trainings share with sampling: the lock, one line for a full disk, early refusals."""

import errno
import json
from dataclasses import replace

import pytest
import torch

import guided
from guided.fitting.negative.job import NegativeTraining, train_negative
from guided.fitting.negative.self_npo import SelfNPO
from guided.fitting.value import fit as fitting
from guided.storage import lock
from tests.toys.small import tokens
from tests.toys.values import dna, gc

SMALL = {"n": 20, "batch_size": 8, "updates": 8, "batch": 16, "network": {"width": 8, "depth": 1}, "n_check": 0}


def value(out, reward=gc, **options):
    return guided.fit_value(dna(), reward, "mean", out=out, **{"prompt": "GC", "states": 2, **SMALL, **options})


def negative(out, reward=None, **options):
    training = NegativeTraining(steps=4, batch=4, n=8, lr=1e-3, batch_size=4, seed=2)
    method = SelfNPO(K=4, j=1, T=8) if reward is None else None
    return train_negative(tokens(), out, training=training, method=method, reward=reward, **options)


JOBS = {"value": value, "negative": negative}


@pytest.mark.parametrize("job", JOBS)
def test_two_processes_do_not_write_the_same_folder(tmp_path, job):
    with lock(tmp_path / "a"), pytest.raises(ValueError, match="another process is writing to"):
        JOBS[job](tmp_path / "a")
    assert list((tmp_path / "a").iterdir()) == []

    def second(state):
        with pytest.raises(ValueError, match="another process is writing to"):
            JOBS[job](tmp_path / "a")

    JOBS[job](tmp_path / "a", progress=second)
    assert "metrics" in json.loads((tmp_path / "a/config.json").read_text())


def test_rollouts_that_are_being_drawn_are_not_drawn_twice(tmp_path):
    with lock(tmp_path / "r"), pytest.raises(ValueError, match=r"another process is writing to .*r'"):
        value(tmp_path / "a", rollouts=tmp_path / "r")
    value(tmp_path / "a", rollouts=tmp_path / "r")


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("after", range(0, 9, 2))
def test_a_full_disk_is_one_line_and_the_job_goes_on(tmp_path, monkeypatch, job, after):
    """Whatever is being written: the configuration, data, states, weights or the card."""
    monkeypatch.setattr(fitting, "SAVING", 0.0)
    JOBS[job](tmp_path / "whole")
    left = [after]

    def full(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ValueError, match=r"^cannot write to the folder '.*': No space left on device$"):
            JOBS[job](tmp_path / "a")
    JOBS[job](tmp_path / "a")
    one, other = (sorted((tmp_path / name).glob("*.safetensors")) for name in ("whole", "a"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other] != []


@pytest.mark.parametrize("job", JOBS)
def test_a_reward_of_other_samples_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, job):
    for module in ("guided.fitting.value.job.roll", "guided.fitting.negative.job.draw_dataset"):
        monkeypatch.setattr(module, lambda *given, **options: pytest.fail("it was drawn"))
    model = dna() if job == "value" else tokens()
    model = replace(model, codec=replace(model.codec, modality="dna"))
    with pytest.raises(ValueError, match=r"reward 'qed' scores molecules; the samples of this model are DNA and RNA"):
        if job == "value":
            guided.fit_value(model, "qed", "mean", out=tmp_path / "a", prompt="GC", **SMALL)
        else:
            train_negative(model, tmp_path / "a", reward="qed")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("job", "name"), [("value", "rollouts"), ("negative", "samples"), ("negative", "config.json")])
def test_nothing_is_written_through_a_link_out_of_the_folder(tmp_path, job, name):
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).symlink_to(other)
    with pytest.raises(ValueError, match="is a link out of its folder"):
        JOBS[job](tmp_path / "a")
    assert list(other.iterdir()) == []


@pytest.mark.parametrize("job", JOBS)
def test_a_state_of_the_former_version_is_left_aside(tmp_path, job):
    """Its updates are made again, which ends with the same weights; at the end it is removed."""
    JOBS[job](tmp_path / "whole")

    def stop(state):
        if state.stage == "updates":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        JOBS[job](tmp_path / "a", progress=stop)
    torch.save({"update": 3}, tmp_path / "a/training.pt")
    JOBS[job](tmp_path / "a")
    assert not (tmp_path / "a/training.pt").exists() and not (tmp_path / "a/training").exists()
    one, other = (next((tmp_path / name).glob("*.safetensors")) for name in ("whole", "a"))
    assert one.read_bytes() == other.read_bytes()
