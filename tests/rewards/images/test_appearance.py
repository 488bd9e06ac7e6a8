"""Rewards of pixels: closed forms on pictures whose value is known, and what must not matter."""

import re
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import local

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from guided.rewards.images import appearance
from guided.rewards.images.appearance import (
    brightness,
    colourfulness,
    compressibility,
    contrast,
    incompressibility,
    lab,
    sharpness,
    symmetry,
    target_colour,
)
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import rewards

PAGE = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text(encoding="utf-8")
LUMA = {"red": 0.299, "lime": 0.587, "blue": 0.114, "black": 0.0, "white": 1.0}
BY_PIXEL = [brightness, contrast, colourfulness, lambda samples: target_colour(samples, "teal")]


def plain(colour: str, width: int = 8, height: int = 6) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def drawn(height: int = 16, width: int = 24, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def grey(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def checkered(size: int, low: int = 0, high: int = 255) -> Image.Image:
    return grey(np.where(np.add.outer(np.arange(size), np.arange(size)) % 2, high, low))


def test_size_is_that_of_a_file_written_by_hand(tmp_path: Path) -> None:
    batch = [drawn(64, 64), plain("red", 64, 64), checkered(32)]
    sizes = []
    for i, image in enumerate(batch):
        image.save(tmp_path / f"{i}.jpg", quality=95)
        sizes.append((tmp_path / f"{i}.jpg").stat().st_size / 1000)
    assert incompressibility(batch).tolist() == sizes
    assert compressibility(batch).tolist() == [-size for size in sizes]
    assert sizes[0] > 4 > 1.5 > sizes[1]
    default = BytesIO()
    batch[0].save(default, format="JPEG")
    assert sizes[0] > 1.5 * default.tell() / 1000  # of a lower quality


def test_sizes_are_the_same_in_threads_and_each_has_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [drawn(size, 48) for size in range(8, 72)]
    alone = [incompressibility([image]).tolist()[0] for image in batch]
    with ThreadPoolExecutor(8) as pool:
        assert [scores.tolist()[0] for scores in pool.map(lambda image: incompressibility([image]), batch)] == alone
        files = {id(file) for file in pool.map(lambda _: appearance._scratch(), range(64))}
    assert id(appearance._scratch()) not in files
    mine = appearance._scratch()
    monkeypatch.setattr(appearance.os, "getpid", lambda: -1)  # as in a process that was forked
    assert appearance._scratch() is not mine


def test_sizes_without_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    size = incompressibility([drawn(64, 64)]).tolist()
    monkeypatch.delattr(appearance.os, "memfd_create", raising=False)
    monkeypatch.setattr(appearance, "_own", local())
    assert incompressibility([drawn(64, 64)]).tolist() == size


def test_brightness_of_a_plain_colour_is_its_luma_and_nothing_varies() -> None:
    batch = [plain(colour) for colour in LUMA]
    assert brightness(batch) == pytest.approx(list(LUMA.values()), abs=1e-12)
    assert contrast(batch) == pytest.approx(0, abs=1e-12)
    assert brightness([plain("#404040")]) == pytest.approx(64 / 255)


def test_contrast_of_two_levels_is_half_their_distance() -> None:
    assert contrast([checkered(8), checkered(8, 51, 153)]) == pytest.approx([0.5, 0.2])
    three_to_one = grey(np.array([[0, 0, 0, 255]]))
    assert contrast([three_to_one]) == pytest.approx(np.sqrt(3) / 4)


def test_colourfulness_is_the_published_formula() -> None:
    assert colourfulness([plain("grey"), checkered(8)]) == pytest.approx(0, abs=1e-9)
    # of one colour: rg = 255, yb = 127.5 for red; rg = 0, yb = -255 for blue
    assert colourfulness([plain("red")]) == pytest.approx(0.3 * np.hypot(255, 127.5))
    assert colourfulness([plain("blue")]) == pytest.approx(0.3 * 255)
    half = Image.new("RGB", (8, 8), "red")
    half.paste("blue", (0, 0, 4, 8))
    means, deviations = np.hypot(127.5, -63.75), np.hypot(127.5, 191.25)
    assert colourfulness([half]) == pytest.approx(deviations + 0.3 * means)


def test_spreads_below_one_level_are_exact() -> None:
    """A quarter of the pixels has one level more of red: the means are no whole numbers."""
    pixels = np.full((8, 8, 3), 100, dtype=np.uint8)
    pixels[:4, :4, 0] = 101
    share = 3 / 16  # the variance of one in four
    wanted = np.sqrt(share + share / 4) + 0.3 * np.hypot(0.25, 0.125)
    assert colourfulness([pixels]) == pytest.approx(wanted, abs=1e-12)
    assert contrast([pixels]) == pytest.approx(0.299 * np.sqrt(share) / 255, abs=1e-12)


def test_lab_is_the_published_one() -> None:
    known = {  # D65, by Lindbloom's calculator, rounded
        "white": (100, 0, 0),
        "black": (0, 0, 0),
        "red": (53.24, 80.09, 67.20),
        "lime": (87.73, -86.18, 83.18),
        "blue": (32.30, 79.19, -107.86),
        "#808080": (53.59, 0, 0),
    }
    found = lab(torch.tensor(np.array([np.asarray(plain(colour))[0, 0] for colour in known]) / 255))
    assert found.numpy() == pytest.approx(np.array(list(known.values())), abs=0.015)
    level = np.arange(256) / 255  # of a grey L is known from its luminance Y alone
    luminance = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    lightness = np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, 24389 / 27 * luminance)
    greys = lab(torch.from_numpy(np.repeat(level[:, None], 3, axis=1)))
    assert greys.numpy() == pytest.approx(np.stack([lightness, 0 * level, 0 * level], axis=1), abs=1e-9)


def test_target_colour_is_the_mean_distance_in_lab() -> None:
    assert target_colour([plain("red"), plain("white"), plain("black")], "white")[1:] == pytest.approx([0, -100])
    assert target_colour([plain("red")], "#f00") == pytest.approx(0)
    half = Image.new("RGB", (8, 8), "white")
    half.paste("black", (0, 0, 2, 8))
    assert target_colour([half], "white") == pytest.approx(-25)
    nearer = [plain(colour) for colour in ("blue", "purple", "crimson", "red")]
    assert (np.diff(target_colour(nearer, "red")) > 0).all()
    names = ["red", "#ff0000", "ff0000", "#F00", "rgb(255, 0, 0)", "hsl(0, 100%, 50%)"]
    assert len({target_colour([drawn()], name)[0] for name in names}) == 1


def test_symmetry_is_one_for_a_mirrored_picture_and_no_other() -> None:
    image = drawn()
    both = Image.new("RGB", (48, 16))
    both.paste(image, (0, 0))
    both.paste(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (24, 0))
    half = Image.new("RGB", (8, 8), "white")
    half.paste("black", (0, 0, 4, 8))
    quarter = Image.new("RGB", (8, 8), "white")
    quarter.paste("black", (0, 0, 2, 8))
    turned = half.transpose(Image.Transpose.ROTATE_90)
    assert symmetry([both, plain("red"), turned, half, quarter]) == pytest.approx([1, 1, 1, 0, 0.5])
    assert symmetry([image])[0] < 0.8


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    ramp = grey(np.tile(np.arange(0, 250, 10.0), (9, 1)))
    assert sharpness([plain("red"), ramp]) == pytest.approx(0, abs=1e-9)  # of what is linear there is none
    stripes = grey(np.tile(np.array([0, 255] * 5), (8, 1)))
    assert sharpness([stripes, checkered(8)]) == pytest.approx([(2 * 255) ** 2, (4 * 255) ** 2])
    image = drawn(40, 40)
    blurred = [image.filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 0.5, 1, 2)]
    assert (np.diff(sharpness(blurred)) < 0).all()
    with pytest.raises(ValueError, match="at least 3 x 3 pixels, given 8 x 2"):
        sharpness([plain("red", 8, 2)])


def test_pixels_may_trade_places_where_only_their_values_count() -> None:
    image = np.asarray(drawn())
    shuffled = np.random.default_rng(1).permutation(image.reshape(-1, 3)).reshape(24, 16, 3)
    for reward in BY_PIXEL:
        assert reward([image]) == pytest.approx(reward([shuffled]), abs=1e-9)


@pytest.mark.parametrize("turn", [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM])
def test_a_mirror_changes_nothing(turn: Image.Transpose) -> None:
    image = drawn()
    for reward in (*BY_PIXEL, sharpness, symmetry):
        assert reward([image.transpose(turn)]) == pytest.approx(reward([image]), abs=1e-9)


def test_a_score_does_not_depend_on_the_batch() -> None:
    batch = [drawn(16, 24), plain("red"), drawn(9, 5, seed=3), checkered(32)]
    for reward in (*BY_PIXEL, sharpness, symmetry, compressibility, incompressibility):
        assert reward(batch).tolist() == [reward([image])[0] for image in batch]
        assert reward([]).shape == (0,)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("target_colour?colour=rde", "did you mean 'red'?"),
        ("target_colour?colour=#12", "a name of CSS or a code like #ff0000 is accepted"),
        ("target_colour?colour=", "unknown colour ''"),
        ("target_colour", "needs 'colour'"),
    ],
)
def test_wrong_parameters_are_known_at_construction(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"reward '.*") as caught:
        resolve_reward(spec)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name, reward in rewards().items() if reward.modality == "images"])
def test_the_page_says_what_the_score_is(name: str) -> None:
    row = re.search(rf"^\| `{name}[`?].*$", PAGE, re.MULTILINE)
    assert row and rewards()[name].transform is None and rewards()[name].doc.endswith(".")
