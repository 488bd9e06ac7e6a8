"""`guided sample` with models of images: files, prompts, images to start from, and errors."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from guided.runs import describe
from guided.runs import sample as resolving
from guided.runs.watch import marks
from tests.toys.pictures import pictures, redness, videos

RUN = ("--reward", "red.py:redness", "-n", "6", "-M", "3", "--batch-size", "2", "--device", "cpu")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """The toys are the models, under any name; a reward in a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resolving, "load", lambda name, **options: {"videos": videos}.get(name, pictures)())
    (tmp_path / "red.py").write_text("from tests.toys.pictures import redness\n")
    Image.fromarray(np.full((4, 4, 3), (0, 0, 255), dtype=np.uint8)).save("blue.png")
    Image.fromarray(np.repeat([[0, 0, 255, 255]], 4, 0).astype(np.uint8)).save("right.png")
    return tmp_path


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def array(path):
    return np.asarray(Image.open(path).convert("RGB"), dtype=int)


def test_the_rows_name_files_that_hold_what_was_scored(guided, folder):
    code, _, err = guided("sample", "pictures", *RUN, "--out", "a")
    assert code == 0, err
    for name, below in (("samples.csv", "samples"), ("unguided.csv", "unguided")):
        rows = rows_of(folder / "a" / name)
        assert [row["sample"] for row in rows] == [f"{below}/0000{i}.png" for i in range(6)]
        assert [float(row["reward"]) for row in rows] == redness([array(folder / "a" / row["sample"]) for row in rows])
    assert (folder / "a" / "report.html").exists()


def test_unguided_pictures_are_those_of_an_unguided_run(guided, folder):
    guided("sample", "pictures", *RUN, "--out", "a")
    words = [word for word in RUN if word not in ("-M", "3")]
    guided("sample", "pictures", *words, "--sampler", "unguided", "--out", "b")
    beside, alone = (folder / "a" / "unguided", folder / "b" / "samples")
    assert files(beside) == files(alone)
    assert not (folder / "b" / "unguided").exists() and not (folder / "b" / "path").exists()


def test_a_killed_run_ends_with_the_same_bytes(guided, folder):
    guided("sample", "pictures", *RUN, "--out", "whole")
    expected = files(folder / "whole")
    last = len(expected["samples.csv"].splitlines(keepends=True)[-1])
    for kept in (0, 100, len(expected["samples.csv"]) - last):
        shutil.copytree(folder / "whole", folder / "torn")
        (folder / "torn" / "samples.csv").write_bytes(expected["samples.csv"][:kept])
        (folder / "torn" / "samples" / "00004.png").write_bytes(b"torn")
        (folder / "torn" / "samples" / "00005.png.part").write_bytes(b"torn")
        code, _, err = guided("sample", "pictures", *RUN, "--out", "torn")
        assert code == 0, err
        found = files(folder / "torn")
        assert found.keys() == expected.keys()
        different = {name for name in expected if found[name] != expected[name]}
        assert different <= {"run.json", "report.html"}
        shutil.rmtree(folder / "torn")


def test_only_writes_its_picture_beside_its_row(guided, folder):
    guided("sample", "pictures", *RUN, "--out", "a")
    before = files(folder / "a")
    code, _, err = guided("sample", "pictures", *RUN, "--out", "a", "--only", "3")
    assert code == 0, err
    after = files(folder / "a")
    assert after.keys() - before.keys() == {"only-3.csv", "only-3.png"}
    assert after["only-3.png"] == before["samples/00003.png"]
    assert rows_of(folder / "a" / "only-3.csv")[0]["sample"] == "only-3.png"
    assert all(after[name] == before[name] for name in before)


def test_videos_are_files_too(guided, folder):
    code, _, err = guided("sample", "videos", *RUN, "--out", "a")
    assert code == 0, err
    assert Image.open(folder / "a" / "samples" / "00005.webp").n_frames == 2
    assert Image.open(folder / "a" / "path" / "005.webp").n_frames == 2


@pytest.mark.parametrize("words", [(), ("--only", "2")])
def test_pictures_need_a_folder(guided, folder, monkeypatch, words):
    monkeypatch.setattr("guided.runs.job.batches_of", lambda *args: pytest.fail("something was drawn"))
    before = files(folder)
    code, out, err = guided("sample", "pictures", *RUN, *words)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert "'pictures' are images; give --out" in err
    assert files(folder) == before


def test_the_way_of_a_request_leads_to_its_sample(guided, folder):
    """With noise in all steps but the last: look-aheads at 1 to 5 of 6, at none of which anything else is drawn."""
    guided("sample", "pictures", *RUN, "--batch-size", "6", "--out", "a")
    steps = rows_of(folder / "a" / "path" / "steps.csv")
    mean = [float(row["best"]) for row in rows_of(folder / "a" / "path.csv")]
    assert [int(row["step"]) for row in steps] == [1, 2, 3, 4, 5]
    for row in steps:
        assert redness([array(folder / "a" / row["sample"])]) == [float(row["value"])]
    assert len(mean) == len(steps)
    stats = json.loads((folder / "a" / "run.json").read_text())["stats"]
    guided("sample", "pictures", *RUN, "--batch-size", "6", "--no-report", "--out", "b")
    assert json.loads((folder / "b" / "run.json").read_text())["stats"]["network_rows"] == stats["network_rows"]
    assert not (folder / "b" / "path").exists()


def test_with_one_request_the_way_is_that_of_the_run(guided, folder):
    guided("sample", "pictures", *RUN, "-n", "1", "--out", "a")
    ways = [rows_of(folder / "a" / name) for name in ("path/steps.csv", "path.csv")]
    assert [row["value"] for row in ways[0]] == [row["best"] for row in ways[1]]


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 5), (0, 8), (0, 50), (20, 50), (49, 50), (0, 9)])
def test_marks_are_spread_from_the_first_step_to_the_last(first, last):
    found = marks(first, last)
    assert found == sorted(set(found)) and len(found) == min(8, last - first)
    assert found[-1] == last or last - first == 1
    assert found[0] == first + 1
    gaps = np.diff(found)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_best_of_n_has_no_way(guided, folder):
    words = [word for word in RUN if word not in ("-M", "3")]
    code, _, err = guided("sample", "pictures", *words, "--sampler", "best-of-n", "--set", "N=3", "--out", "a")
    assert code == 0, err
    assert not (folder / "a" / "path").exists()


def test_each_line_of_prompts_has_as_many_requests(guided, folder):
    (folder / "two.txt").write_text("red\ngreen\n")
    code, _, err = guided("sample", "pictures", *RUN, "--prompts", "two.txt", "--out", "a")
    assert code == 0, err
    run = json.loads((folder / "a" / "run.json").read_text())
    assert run["config"]["prompt"] == ["red"] * 3 + ["green"] * 3
    rewards = [float(row["reward"]) for row in rows_of(folder / "a" / "unguided.csv")]
    assert min(rewards[:3]) > max(rewards[3:])


def test_what_was_given_is_in_the_configuration_and_nothing_else(guided, folder):
    guided("sample", "pictures", *RUN, "--no-report", "--out", "plain")
    given = ("--prompt", "red", "--negative-prompt", "green", "--guidance", "2", "--rescale", "0.5")
    given += ("--image", "blue.png", "--strength", "0.5", "--mask", "right.png")
    code, _, err = guided("sample", "pictures", *RUN, *given, "--no-report", "--out", "full")
    assert code == 0, err
    plain, full = (json.loads((folder / name / "run.json").read_text())["config"] for name in ("plain", "full"))
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("blue.png", "right.png")}
    assert {key: full[key] for key in full if key not in plain} == {
        "negative_prompt": "green",
        "rescale": 0.5,
        "image": {"file": "blue.png", "sha256": digests["blue.png"]},
        "strength": 0.5,
        "mask": {"file": "right.png", "sha256": digests["right.png"]},
    }
    assert plain.keys() <= full.keys()


def test_a_run_keeps_what_the_mask_keeps(guided, folder):
    command = ("sample", "pictures", *RUN, "--image", "blue.png", "--mask", "right.png", "--no-report", "--out", "a")
    assert guided(*command)[0] == 0
    pixels = np.array([array(folder / "a" / row["sample"]) for row in rows_of(folder / "a" / "samples.csv")])
    blue = np.array([0, 0, 255])
    assert np.abs(pixels[:, :, :12] - blue).max() <= 1
    assert np.abs(pixels[:, :, 12:] - blue).mean() > 30


def test_another_image_of_the_same_name_is_another_run(guided, folder):
    command = ("sample", "pictures", *RUN, "--image", "blue.png", "--strength", "0.5", "--no-report", "--out", "a")
    assert guided(*command)[0] == 0
    shutil.copy("right.png", "blue.png")
    code, _, err = guided(*command)
    assert code == 2 and "image.sha256 is" in err


def test_a_negative_prompt_leads_away(guided, folder):
    """Weight 2 moves the mean from that of the prompt by its distance to that of the negative one."""
    words = [word for word in RUN if word not in ("-M", "3")] + ["--sampler", "unguided", "--prompt", "", "--no-report"]
    guided("sample", "pictures", *words, "--guidance", "2", "--negative-prompt", "red", "--out", "away")
    guided("sample", "pictures", *words, "--guidance", "2", "--negative-prompt", "green", "--out", "other")
    means = [[array(file).mean((0, 1)) for file in (folder / name / "samples").iterdir()] for name in ("away", "other")]
    away, other = (np.mean(mean, 0) for mean in means)
    assert away[0] < other[0] and away[1] > other[1]


def test_versions_of_the_libraries_are_recorded(guided, folder):
    guided("sample", "pictures", *RUN, "--no-report", "--out", "a")
    run = json.loads((folder / "a" / "run.json").read_text())
    assert {"torch", "pillow"} <= run["versions"].keys()
    assert set(describe.PACKAGES) >= {"diffusers", "transformers", "accelerate", "peft", "pillow"}


WRONG = {
    "strength without an image": (("--strength", "0.5"), "--strength needs an --image"),
    "mask without an image": (("--mask", "right.png"), "--mask needs an --image"),
    "strength 0": (("--image", "blue.png", "--strength", "0"), "--strength is 0.0"),
    "strength above 1": (("--image", "blue.png", "--strength", "1.5"), "--strength is 1.5"),
    "strength nan": (("--image", "blue.png", "--strength", "nan"), "--strength is nan"),
    "rescale below 0": (("--rescale", "-0.5"), "--rescale is -0.5"),
    "rescale nan": (("--rescale", "nan"), "--rescale is nan"),
    "rescale without guidance": (("--rescale", "0.5", "--guidance", "1"), "--rescale needs guidance"),
    "negative prompt without guidance": (("--negative-prompt", "a", "--guidance", "1"), "--negative-prompt needs"),
    "no such image": (("--image", "none.png"), "cannot read --image 'none.png'"),
    "image is a folder": (("--image", "."), "cannot read --image '.'"),
    "image is text": (("--image", "red.py"), "'red.py' is no image"),
    "torn image": (("--image", "torn.png"), "'torn.png' is no image"),
    "no such mask": (("--image", "blue.png", "--mask", "none.png"), "cannot read --mask 'none.png'"),
    "mask is text": (("--image", "blue.png", "--mask", "red.py"), "--mask 'red.py' is no image"),
    "empty line": (("--prompts", "gap.txt"), "'gap.txt' have an empty line, line 2"),
    "no prompts": (("--prompts", "empty.txt"), "'empty.txt' are empty"),
    "no multiple": (("--prompts", "four.txt"), "4 lines and -n is 6"),
    "more prompts than requests": (("--prompts", "four.txt", "-n", "2"), "4 lines and -n is 2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_before_the_model_is_loaded(guided, folder, monkeypatch, case):
    monkeypatch.setattr(resolving, "load", lambda name, **options: pytest.fail("the model was loaded"))
    (folder / "torn.png").write_bytes((folder / "blue.png").read_bytes()[:-30])
    (folder / "gap.txt").write_text("red\n\ngreen\n")
    (folder / "empty.txt").touch()
    (folder / "four.txt").write_text("red\n" * 4)
    before = files(folder)
    words, expected = WRONG[case]
    code, out, err = guided("sample", "pictures", *RUN, *words, "--out", "a")
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, err
    assert expected in err
    assert files(folder) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--image", "blue.png", "--strength", "0.1"), "leaves none to take"),
        (("--image", "blue.png", "--mask", "black.png"), "the mask keeps everything"),
        (("--reward", "qed"), "reward 'qed' scores molecules; the samples of this model are images"),
    ],
)
def test_what_only_the_model_knows_is_one_line_too(guided, folder, words, expected):
    Image.new("L", (4, 4)).save("black.png")
    code, out, err = guided("sample", "pictures", *RUN, *words, "--out", "a")
    assert code == 2 and out == "" and err.count("\n") == 1 and expected in err
    assert not (folder / "a" / "samples.csv").exists()


def test_videos_cannot_start_from_an_image(guided, folder):
    code, _, err = guided("sample", "videos", *RUN, "--image", "blue.png", "--out", "a")
    assert code == 2 and "cannot start from a sample" in err
