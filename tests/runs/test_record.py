"""Runs in folders, from Python: what the command line writes, and what comes back."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import guided
from guided.errors import GuidedError
from guided.samplers import SVDD
from guided.scoring.objective import resolve_reward
from tests.runs.test_sample import dna, gc
from tests.toys.chains import gaussian
from tests.toys.pictures import pictures, redness, videos


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


DOMAINS = {
    "molecules": ("qed", None),
    "dna": ("activity", "HepG2"),
    "rna": ("gc?linear=0,1", "human"),
    "images": ("compressibility", "red apple"),
}


@pytest.mark.parametrize("model", DOMAINS)
def test_python_and_the_command_line_write_equal_files(model, tmp_path, monkeypatch, request):
    """And each goes on with what the other has begun."""
    run = request.getfixturevalue("guided")
    monkeypatch.chdir(tmp_path)
    reward, prompt = DOMAINS[model]
    words = ("-n", "3", "-M", "2", "--alpha", "0.1", "--steps", "3", "--batch-size", "2", "--seed", "5")
    words += () if prompt is None else ("--prompt", prompt)
    code, _, err = run("sample", model, "-r", reward, *words, "--no-report", "--out", "a")
    assert code == 0, err
    given = {"n": 3, "seed": 5, "steps": 3, "batch_size": 2, "prompt": prompt}
    drawn = guided.sample(model, reward, SVDD(M=2, alpha=0.1), **given, out="b")
    first, second = files(tmp_path / "a"), files(tmp_path / "b")
    assert first.keys() == second.keys()
    assert all(first[name] == second[name] for name in first if name != "run.json")
    configs = [json.loads(data["run.json"])["config"] for data in (first, second)]
    assert configs[0] == configs[1]
    again = guided.sample(guided.load(model), reward, SVDD(M=2, alpha=0.1), **given, out="a")
    assert again.rewards.tolist() == drawn.rewards.tolist() and files(tmp_path / "a") == first


def test_what_is_written_comes_back(tmp_path):
    run = guided.sample(dna(), gc, SVDD(3), n=7, batch_size=3, out=tmp_path / "a")
    back = guided.open_run(tmp_path / "a")
    assert list(back.samples) == run.samples and back.rewards.tolist() == run.rewards.tolist()
    assert back.columns == run.columns and list(back.columns) == list(run.columns)
    assert back.path == run.path and back.stats == run.stats
    assert back.config["n"] == 7 and back.config["sampler"]["M"] == 3
    assert back.config["reward"]["terms"][0]["reward"] == "tests.runs.test_sample:gc"
    plain = guided.sample(dna(), gc, SVDD(3), n=7, batch_size=3)
    assert plain.samples == run.samples and plain.columns == run.columns and plain.path == run.path


def test_a_stopped_run_goes_on_and_hands_out_all(tmp_path):
    given = {"reward": gc, "sampler": SVDD(3), "n": 7, "batch_size": 3}
    whole = guided.sample(dna(), **given, out=tmp_path / "whole")
    stream = guided.stream(dna(), **given, out=tmp_path / "torn")
    next(stream)
    stream.close()
    assert len(guided.open_run(tmp_path / "torn").samples) == 3
    batches = list(guided.stream(dna(), **given, out=tmp_path / "torn"))
    assert [batch.requests for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [sample for batch in batches for sample in batch.samples] == whole.samples
    assert sum(batch.stats.network_rows for batch in batches) == whole.stats.network_rows
    fresh = list(guided.stream(dna(), **given))
    for again in (list(guided.stream(dna(), **given, out=tmp_path / "torn")), batches):
        for first, second in zip(fresh, again, strict=True):
            assert (first.requests, first.samples, first.rewards) == (second.requests, second.samples, second.rewards)
            assert first.columns == second.columns and first.path == second.path
            spent = [(batch.stats.network_rows, batch.stats.reward_calls) for batch in (first, second)]
            assert spent[0] == spent[1]
    for name in ("samples.csv", "path.csv"):
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_working_directory_that_moves_leaves_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    stream = guided.stream(dna(), gc, SVDD(2), n=2, batch_size=1, out="a")
    monkeypatch.chdir(tmp_path / "other")
    list(stream)
    assert len(guided.open_run(tmp_path / "a").samples) == 2 and not list((tmp_path / "other").iterdir())


def test_images_come_back_exactly_when_they_are_asked_for(tmp_path):
    run = guided.sample(pictures(), redness, SVDD(3), n=4, batch_size=3, out=tmp_path / "a", report=True)
    back = guided.open_run(tmp_path / "a")
    assert len(back.samples) == 4 and len(back.samples[1:3]) == 2
    for first, second in zip(run.samples, back.samples, strict=True):
        assert np.array_equal(np.asarray(first), np.asarray(second))
    (tmp_path / "a/samples/00003.png").unlink()
    assert isinstance(guided.open_run(tmp_path / "a").samples[0], Image.Image)
    assert (tmp_path / "a/report.html").exists() and (tmp_path / "a/unguided.csv").exists()
    assert (tmp_path / "a/path/steps.csv").exists()


def test_videos_come_back_as_frames(tmp_path):
    run = guided.sample(videos(), redness, SVDD(2), n=2, out=tmp_path / "a")
    back = guided.open_run(tmp_path / "a").samples[1]
    assert np.array_equal(np.asarray(run.samples[1][-1]), np.asarray(back[-1]))


def test_a_closure_is_not_resumed_unless_it_is_trusted(tmp_path):
    given = {"sampler": SVDD(2), "n": 4, "batch_size": 2, "out": tmp_path / "a"}
    run = guided.sample(dna(), lambda s: gc(s), **given)
    before = files(tmp_path / "a")
    with pytest.raises(GuidedError, match=r"'lambda' is the one .* trust_rewards=True \(--trust-rewards\)"):
        guided.sample(dna(), lambda s: gc(s), **given)
    assert files(tmp_path / "a") == before
    assert guided.sample(dna(), lambda s: gc(s), **given, trust_rewards=True).samples == run.samples
    guided.sample(dna(), gc, **{**given, "out": tmp_path / "b"})
    assert guided.sample(dna(), gc, **{**given, "out": tmp_path / "b"}).samples == run.samples


class Judge:
    def __call__(self, samples):
        return gc(samples)


def test_an_object_is_not_resumed_either(tmp_path):
    given = {"sampler": SVDD(2), "n": 2, "out": tmp_path}
    guided.sample(dna(), Judge(), **given)
    with pytest.raises(GuidedError, match=r"nothing shows that the reward .* is the one that scored them"):
        guided.sample(dna(), Judge(), **given)


def test_objects_in_memory_are_named_in_run_json(tmp_path):
    model = dna()
    guided.sample(model, resolve_reward(gc), SVDD(2), n=2, out=tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["config"]["model"] == model.name and run["config"]["device"] == "cpu"
    assert run["options"]["model"] == {"object": "a model called 'model'"}
    assert run["options"]["reward"] == {"object": "the reward 'gc'"}
    assert run["options"]["sampler"]["M"] == 2


def test_only_draws_beside_the_run(tmp_path):
    given = {"reward": gc, "sampler": SVDD(2), "n": 6, "batch_size": 4, "out": tmp_path / "a"}
    whole = guided.sample(dna(), **given)
    before = files(tmp_path / "a")
    few = guided.sample(dna(), **given, only=[1, 5])
    assert few.samples == [whole.samples[1], whole.samples[5]]
    after = files(tmp_path / "a")
    assert after.keys() - before.keys() == {"only-1.csv", "only-5.csv"}
    assert all(after[name] == before[name] for name in before)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_without_a_run_is_said(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(GuidedError):
        guided.open_run(tmp_path)


def test_another_run_is_refused(tmp_path):
    guided.sample(dna(), gc, SVDD(2), n=2, out=tmp_path)
    with pytest.raises(GuidedError, match=r"sampler\.M is 2 there and 3 here"):
        guided.sample(dna(), gc, SVDD(3), n=2, out=tmp_path)
    shutil.rmtree(tmp_path)
    tmp_path.write_text("x")
    with pytest.raises(GuidedError, match=r"out .* must be a folder"):
        guided.sample(dna(), gc, SVDD(3), n=2, out=tmp_path)


def test_a_loaded_model_is_where_it_is():
    with pytest.raises(GuidedError, match="device is 'cuda', but the model is already loaded"):
        guided.sample(dna(), gc, n=1, device="cuda")


def test_a_run_that_goes_on_under_other_versions_says_so_and_records_both(tmp_path):
    """Rounding may differ between them, so the samples need not be those of one session."""
    given = {"reward": gc, "sampler": SVDD(3), "n": 7, "batch_size": 3}
    stream = guided.stream(dna(), **given, out=tmp_path / "a")
    next(stream)
    stream.close()
    file = tmp_path / "a" / "run.json"
    record = json.loads(file.read_text())
    old = {**record["versions"], "torch": "1.13.1", "python": "3.8.0"}
    file.write_text(json.dumps({**record, "versions": old}))
    with pytest.warns(UserWarning, match=r"^the first 3 samples of '.*a' were drawn with torch 1\.13\.1 \(now [0-9.]+"):
        guided.sample(dna(), **given, out=tmp_path / "a")
    after = json.loads(file.read_text())
    assert after["earlier_versions"] == [old] and after["versions"] == record["versions"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guided.sample(dna(), **given, out=tmp_path / "a")  # finished: nothing is drawn
    assert json.loads(file.read_text()) == after


@pytest.mark.parametrize("change", [{"eta": 0.5}, {"clip": 1.0}, {"alphas": None}])
def test_another_scheduler_of_the_same_weights_is_another_run(tmp_path, change):
    """The identity of a model is that of its weights; its grid, noise and clipping come from elsewhere."""
    model, given = gaussian(K=4), {"sampler": SVDD(2), "n": 4, "batch_size": 2, "out": tmp_path / "a"}
    model = replace(model, identity="the same")
    stream = guided.stream(model, many, **given)
    next(stream)
    stream.close()
    process = model.process
    if "alphas" in change:
        change = {"alphas": [*process.alphas[:1], process.alphas[1] * 1.1, *process.alphas[2:]]}
    other = replace(model, process=replace(process, **change))
    with pytest.raises(GuidedError, match="holds another run: process"):
        list(guided.stream(other, many, **given))
    file = tmp_path / "a" / "run.json"
    record = json.loads(file.read_text())
    del record["config"]["process"]  # as a former version wrote it
    file.write_text(json.dumps(record))
    assert len(list(guided.stream(model, many, **given))) == 2


def many(samples):
    return [float(sample.sum()) for sample in samples]
