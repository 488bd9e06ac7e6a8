"""Arguments of a pipeline's call: read, described by digests, and told to the model."""

import json
from pathlib import Path

import pytest
from PIL import Image

import guided
from guided.errors import GuidedError
from guided.runs.config import RunConfig
from guided.runs.files import read_options
from guided.runs.pipe_args import described, opened, read_pairs
from guided.storage import digest_of


def test_pairs_are_read_as_json_or_text() -> None:
    given = ["scale=0.7", "image=a.png", "words=red apple", "sizes=[1, 2]", "on=true", "rule=a=b"]
    given += ["off=False", "none=None", "share=-.5", "text=.a"]
    assert read_pairs(given) == {
        "scale": 0.7,
        "image": "a.png",
        "words": "red apple",
        "sizes": [1, 2],
        "on": True,
        "rule": "a=b",
        "off": False,
        "none": None,
        "share": -0.5,
        "text": ".a",
    }
    assert read_pairs({"scale": 1}) == {"scale": 1}
    assert RunConfig.of(model="images", pipe_args=["scale=2"]).source.pipe_args == {"scale": 2}
    assert RunConfig.of(model="images", pipe_args=[]).source.pipe_args is None


@pytest.mark.parametrize("wrong", [["scale"], ["a=1", "a=2"], ["=1"], "a=1", 3])
def test_other_forms_are_refused(wrong: object) -> None:
    with pytest.raises(GuidedError, match="pipe_args is"):
        RunConfig.of(model="images", pipe_args=wrong)


def test_images_are_files_and_files_have_digests(tmp_path: Path) -> None:
    path = tmp_path / "edges.png"
    Image.new("RGB", (4, 4), "red").save(path)
    given = {"image": str(path), "control_image": [str(path)], "prompt_2": "a text", "num_frames": 9}
    found = opened(given)
    assert found["image"].size == (4, 4)
    assert found["control_image"][0].size == (4, 4)
    assert (found["prompt_2"], found["num_frames"]) == ("a text", 9)
    entry = {"file": str(path), "sha256": digest_of(path.read_bytes())}
    assert described(given) == {"image": entry, "control_image": [entry], "prompt_2": "a text", "num_frames": 9}
    with pytest.raises(GuidedError, match=r"cannot read image 'nothing\.png'"):
        opened({"image": "nothing.png"})


def test_an_animated_file_for_a_video_is_its_frames(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    first, *rest = [Image.new("RGB", (4, 4), colour) for colour in colours]
    path, one = tmp_path / "clip.webp", tmp_path / "one.png"
    first.save(path, save_all=True, append_images=rest, lossless=True)
    first.save(one)
    found = opened({"video": str(path), "image": str(path), "conditioning_frames": [str(one), str(one)]})
    assert [frame.getpixel((0, 0)) for frame in found["video"]] == colours
    assert found["image"].getpixel((0, 0))[:3] == colours[0]
    assert [frame.size for frame in found["conditioning_frames"]] == [(4, 4), (4, 4)]


def test_a_model_that_is_no_pipeline_takes_none() -> None:
    with pytest.raises(GuidedError, match="has no option 'pipe_args'"):
        guided.sample("rna", sampler="unguided", pipe_args={"scale": 1})


def test_files_are_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a run that is repeated by its run.json."""
    place, other = tmp_path / "place", tmp_path / "other"
    for folder in (place, other):
        folder.mkdir()
    Image.new("RGB", (4, 4)).save(place / "edges.png")
    run = {"config": {}, "options": {"pipe_args": {"image": "edges.png", "scale": 2}}, "folder": str(place)}
    (tmp_path / "run.json").write_text(json.dumps(run))
    monkeypatch.chdir(other)
    assert read_options(tmp_path / "run.json")["pipe_args"] == {"image": str(place / "edges.png"), "scale": 2}
    monkeypatch.chdir(place)
    assert read_options(tmp_path / "run.json")["pipe_args"] == {"image": "edges.png", "scale": 2}
