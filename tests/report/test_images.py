"""The report of images: one file, guided beside unguided, nothing that a file says is trusted."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from guided.report import write_report
from guided.report.images import preview_line
from guided.report.thumbnails import is_image, thumbnail
from guided.runs.media import encoded
from guided.storage import write_csv

STATS = {"network_rows": 9, "network_calls": 9, "reward_calls": 9, "seconds": {"total": 1.0}}
CONFIG = {"model": "images", "sampler": {"name": "svdd"}, "seed": 0, "steps": 50, "device": "cpu", "guidance": 5.0}
IMAGE = re.compile(r'<img src="data:image/(\w+);base64,([^"]+)" alt="([^"]*)">')


def colour(i):
    """A colour from which the number can be read."""
    return (10 * (i % 25), 10 * (i // 25), 200)


def plain(i, size=(32, 24)):
    return Image.new("RGB", size, colour(i))


def noise(i, size=(512, 512)):
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8))


def save(path, sample):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(sample))


def fill(folder, n, prompt=None, unguided=0, make=plain, ending="png", path=(), **columns):
    """Guided images 0, 1, …, unguided ones 100, 101, …, those of the trajectory 200, 201, …"""
    run = {"config": {**CONFIG, "n": n, "prompt": prompt}, "reward_name": "red", "stats": STATS}
    (folder / "run.json").write_text(json.dumps(run))
    for name, count, first in (("samples", n, 0), ("unguided", unguided, 100)):
        rows = []
        for i in range(count):
            save(folder / name / f"{i:05d}.{ending}", make(first + i))
            rows.append([i, 0, f"{name}/{i:05d}.{ending}", first + i, *(column[i] for column in columns.values())])
        if count:
            write_csv(folder / f"{name}.csv", [["request", "seed", "sample", "reward", *columns], *rows])
    for step in path:
        save(folder / "path" / f"{step:03d}.{ending}", make(200 + step))
    if path:
        rows = [[step, step / 100, f"path/{step:03d}.{ending}"] for step in path]
        write_csv(folder / "path" / "steps.csv", [["step", "value", "sample"], *rows])
    return write_report(folder).read_text(encoding="utf-8")


def number_of(match):
    """Which of the plain images an image of the page is."""
    image = Image.open(io.BytesIO(base64.b64decode(match[2]))).convert("RGB")
    red, green, _ = image.getpixel((image.width // 2, image.height // 2))
    return round(red / 10) + 25 * round(green / 10)


def section(page, title):
    return page.partition(f"<h2>{title}</h2>")[2].partition("<h2>")[0]


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<(style|svg).*?</\1>|<[^>]*>", " ", page, flags=re.S))


def test_each_request_is_beside_its_unguided_one_under_its_prompt(tmp_path):
    page = fill(tmp_path, 6, ["a cat"] * 3 + ["a dog"] * 3, unguided=6)
    pairs = section(page, "Guided and unguided")
    assert [number_of(match) for match in IMAGE.finditer(pairs)] == [100, 0, 101, 1, 102, 2, 103, 3, 104, 4, 105, 5]
    cat, dog = pairs.partition("<h3>a dog</h3>")[::2]
    assert "<h3>a cat</h3>" in cat
    assert re.findall(r"#\d", text_of(cat)) == ["#0", "#1", "#2"] and re.findall(r"#\d", text_of(dog)) == [
        "#3",
        "#4",
        "#5",
    ]
    assert "unguided 103.000 guided 3.000 #3" in text_of(dog)


def test_a_prompt_of_one_request_is_its_caption(tmp_path):
    pairs = section(fill(tmp_path, 3, ["a cat", "a dog", "a cow"], unguided=3), "Guided and unguided")
    assert "<h3>" not in pairs and "guided 2.000 #2 · a cow" in text_of(pairs)


def test_requests_without_an_unguided_one_stand_alone(tmp_path):
    pairs = section(fill(tmp_path, 3, unguided=1), "Guided and unguided")
    assert [number_of(match) for match in IMAGE.finditer(pairs)] == [100, 0, 1, 2]
    (tmp_path / "unguided.csv").unlink()
    page = write_report(tmp_path).read_text()
    assert [number_of(match) for match in IMAGE.finditer(section(page, "Samples"))] == [0, 1, 2]


def test_the_best_are_first_and_distinct_by_their_bytes(tmp_path):
    page = fill(tmp_path, 6, make=lambda i: plain(i // 2))
    best = section(page, "Best images")
    assert [number_of(match) for match in IMAGE.finditer(best)] == [2, 1, 0]
    assert re.findall(r"#\d", text_of(best)) == ["#5", "#3", "#1"]
    assert "50 % distinct samples of 6" in text_of(page)


def test_the_way_of_request_0_leads_from_its_first_step_to_its_sample(tmp_path):
    way = section(fill(tmp_path, 2, ["a <cat>", "b"], path=(1, 25, 49)), "How request 0 came about")
    assert [number_of(match) for match in IMAGE.finditer(way)] == [201, 225, 249, 0]
    words = ["step 1 of 50 0.010", "step 25 of 50 0.250", "step 49 of 50 0.490", "the sample 0.000", "a &lt;cat&gt;"]
    assert all(word in text_of(way) for word in words)
    (tmp_path / "path" / "steps.csv").unlink()
    assert "came about" not in write_report(tmp_path).read_text()


def test_the_page_is_one_file_and_everything_in_it_is_escaped(tmp_path):
    page = fill(tmp_path, 4, ['<script>"x"</script>'] * 4, unguided=4, path=(1, 2))
    assert "<script" not in page and "&lt;script&gt;" in page
    fetched = set(re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page))
    assert all(target.startswith(("#", "data:image/")) for target in fetched)
    assert len(IMAGE.findall(page)) == 4 + 8 + 3 == page.count("<img")


def test_the_hardest_images_stay_below_some_megabytes(tmp_path):
    hard = noise(0, (192, 192))  # as large as they are shown
    fill(tmp_path, 64, unguided=64, make=lambda i: hard, path=range(1, 9))
    assert (tmp_path / "report.html").stat().st_size < 5e6


def test_many_are_shown_in_part_and_it_is_said(tmp_path):
    page = fill(tmp_path, 80, [f"prompt {i // 10}" for i in range(80)])
    shown = section(page, "Samples")
    assert [number_of(match) for match in IMAGE.finditer(shown)] == [i for i in range(80) if i % 10 < 8]
    assert "16 of the 80 samples are not shown here" in shown
    many = section(fill(tmp_path, 80, [f"prompt {i}" for i in range(80)]), "Samples")
    assert len(IMAGE.findall(many)) == 64 and "16 of the 80" in many


@pytest.mark.parametrize("breakage", ["missing", "torn"])
def test_an_image_that_is_gone_is_named_and_the_page_goes_on(tmp_path, breakage):
    fill(tmp_path, 3)
    path = tmp_path / "samples" / "00001.png"
    data = path.read_bytes()
    path.unlink()
    if breakage == "torn":
        path.write_bytes(data[: len(data) // 2])
    page = write_report(tmp_path).read_text()
    assert page.count("samples/00001.png cannot be read") == 2 and len(IMAGE.findall(page)) == 4


@pytest.mark.parametrize("sample", ["../secret.png", "samples/../../secret.png", "/secret.png", "samples/1.svg"])
def test_no_file_but_those_of_the_run_is_opened(tmp_path, sample):
    assert not is_image([{"sample": sample}])
    save(tmp_path / "secret.png", plain(0))
    (tmp_path / "run" / "samples").mkdir(parents=True)
    assert "cannot be read" in thumbnail(tmp_path / "run", sample, 64)


def test_thumbnails_keep_their_shape_and_are_not_made_larger(tmp_path):
    for size, small in (((400, 100), (192, 48)), ((20, 30), (20, 30))):
        save(tmp_path / "samples" / "00000.png", noise(0, size[::-1]))
        match = IMAGE.fullmatch(thumbnail(tmp_path, "samples/00000.png", 192, 'a "b"'))
        assert Image.open(io.BytesIO(base64.b64decode(match[2]))).size == small
        assert match[3] == "a &quot;b&quot;"


def test_videos_move_as_long_as_they_did(tmp_path):
    video = [plain(i // 2) for i in range(40)]
    page = fill(tmp_path, 2, make=lambda i: video, ending="webp")
    matches = [*IMAGE.finditer(page)]
    assert len(matches) == 1 + 2 and {match[1] for match in matches} == {"webp"}
    small = Image.open(io.BytesIO(base64.b64decode(matches[0][2])))
    spent = []
    for k in range(small.n_frames):
        small.seek(k)
        small.load()
        spent.append(small.info["duration"])
    assert small.n_frames == 16 and sum(spent) == 40 * 125


def test_what_the_look_ahead_decoder_costs_is_said(tmp_path):
    page = fill(tmp_path, 3, preview=[0.5, 0.5, 2.0], path=(1, 2))
    assert "steps are by the look-ahead's decoder" in section(page, "How request 0 came about")
    assert "of 3 samples by that decoder less those by the full one: +0 on average, 0.333 in size" in text_of(page)
    rows = [{"preview": "1", "reward": "2"}, {"preview": "-inf", "reward": "2"}, {"preview": "3", "reward": "4"}]
    assert "2 samples" in preview_line(rows) and "-1 on average" in preview_line(rows)
    assert "correlation 1.000" in preview_line(rows)
    assert preview_line([{"reward": "2"}]) == "" and "correlation" not in preview_line(rows[:1])


def test_a_run_without_a_reward_has_a_report(tmp_path):
    fill(tmp_path, 2)
    rows = [[i, 0, f"samples/0000{i}.png"] for i in range(2)]
    write_csv(tmp_path / "samples.csv", [["request", "seed", "sample"], *rows])
    assert len(IMAGE.findall(write_report(tmp_path).read_text())) == 4


def test_what_a_run_was_given_is_in_its_subtitle(tmp_path):
    fill(tmp_path, 2)
    run = json.loads((tmp_path / "run.json").read_text())
    given = {"model": "hub/images?eta=0.5&lora=a/b", "negative_prompt": "<blurry>", "rescale": 0.7, "strength": 0.6}
    given |= {"image": {"file": "in/photo.png"}, "mask": {"file": "m.png"}}
    (tmp_path / "run.json").write_text(json.dumps({**run, "config": {**run["config"], **given}}))
    page = write_report(tmp_path).read_text()
    assert "<h1>images, guided by red</h1>" in page
    words = (
        "eta=0.5 · lora=a/b · guidance 5 · without &#x27;&lt;blurry&gt;&#x27; · rescale 0.7 · from photo.png · where"
    )
    assert words.replace("&", "&") in page.replace("&amp;", "&")
    assert "where white in m.png · strength 0.6" in page
