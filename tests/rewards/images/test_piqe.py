"""PIQE against its definition written out block by block, and what lowers it."""

from io import BytesIO

import matplotlib.cbook
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from guided.rewards.images.piqe import _flat_edges, _noisy, piqe

Array = NDArray[np.float64]


def photograph(width: int, height: int) -> Image.Image:
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return Image.open(file).convert("RGB").resize((width, height))


def by_hand(image: Image.Image) -> float:
    """As in the paper, a pixel and a block at a time; the picture's sides are multiples of 16."""
    luma = np.asarray(image.convert("L"), dtype=float)
    height, width = luma.shape
    steps = range(-3, 4)
    weights = {(i, j): np.exp(-(i * i + j * j) / (2 * (7 / 6) ** 2)) for i in steps for j in steps}
    total = sum(weights.values())
    standard = np.zeros_like(luma)
    for y in range(height):
        for x in range(width):
            near = {
                (i, j): luma[min(max(y + i, 0), height - 1), min(max(x + j, 0), width - 1)]
                for i in steps
                for j in steps
            }
            mean = sum(weights[k] * near[k] for k in weights) / total
            square = sum(weights[k] * near[k] ** 2 for k in weights) / total
            standard[y, x] = (luma[y, x] - mean) / (np.sqrt(abs(square - mean**2)) + 1)
    blocks = [standard[y : y + 16, x : x + 16] for y in range(0, height, 16) for x in range(0, width, 16)]
    costs = [cost(block) for block in blocks if block.var(ddof=1) > 0.1]
    return 100 * (sum(costs) + 1) / (len(costs) + 1)


def cost(block: Array) -> float:
    variance = block.var(ddof=1)
    edges = [block[0], block[15], block[:, 0], block[:, 15]]
    flat = any(edge[i : i + 6].std(ddof=1) < 0.1 for edge in edges for i in range(11))
    middle = np.concatenate([block[:, 7], block[:, 8]]).std(ddof=1)
    rest = np.concatenate([block[:, :7], block[:, 9:]], axis=1).std(ddof=1)
    sigma, ratio = np.sqrt(variance), middle / rest
    noisy = sigma > 2 * abs(sigma - ratio) / max(sigma, ratio)
    return float(flat * (1 - variance) + noisy * variance)


def test_every_block_is_judged_as_published() -> None:
    source = np.random.default_rng(0)
    blocks = source.normal(0, 1, (400, 16, 16)) * source.uniform(0.2, 1.5, (400, 1, 16))
    blocks[200:] *= source.uniform(0.05, 1, (200, 1, 1))
    variance = blocks.var(axis=(1, 2), ddof=1)
    flat, noisy = _flat_edges(blocks), _noisy(blocks, np.sqrt(variance))
    assert (flat * (1 - variance) + noisy * variance).tolist() == pytest.approx([cost(block) for block in blocks])
    assert 20 < flat.sum() < 380 and 20 < noisy.sum() < 380


def noisy(image: Image.Image, deviation: float) -> Image.Image:
    values = np.asarray(image) + np.random.default_rng(0).normal(0, deviation, (image.height, image.width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def blocky(image: Image.Image) -> Image.Image:
    values = np.asarray(image)[::8, ::8].repeat(8, axis=0).repeat(8, axis=1)
    return Image.fromarray(values[: image.height, : image.width])


def compressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def test_it_is_the_published_measure() -> None:
    image = photograph(48, 32)
    batch = [image, noisy(image, 40), blocky(image), image.filter(ImageFilter.GaussianBlur(1))]
    wanted = [-by_hand(each) for each in batch]
    assert piqe(batch) == pytest.approx(wanted, abs=1e-6)
    assert np.ptp(wanted) > 20


def test_distortions_lower_it() -> None:
    image = photograph(256, 304)
    worse = [noisy(image, 25), image.filter(ImageFilter.GaussianBlur(1.5)), blocky(image), compressed(image, 5)]
    assert (piqe([image]) > piqe(worse) + 10).all()
    grades = [[noisy(image, deviation) for deviation in (0, 5, 10, 20)]]
    grades += [[image.filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 1, 2)]]
    grades += [[image, *(compressed(image, quality) for quality in (30, 10))]]
    for row in grades:
        assert (np.diff(piqe(row)) < 0).all()


def test_small_pictures_have_a_score_and_blur_and_blocks_lower_it() -> None:
    image = photograph(64, 64)
    assert (piqe([image]) > piqe([image.filter(ImageFilter.GaussianBlur(2)), blocky(image)]) + 10).all()


def test_a_picture_without_detail_is_the_worst() -> None:
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1))).convert("RGB")
    assert piqe([Image.new("RGB", (64, 64), "red"), ramp, Image.new("RGB", (1, 1))]).tolist() == [-100, -100, -100]


@pytest.mark.parametrize("size", [(17, 16), (16, 31), (33, 70), (5, 40)])
def test_what_is_missing_in_the_last_blocks_is_mirrored(size: tuple[int, int]) -> None:
    image = photograph(64, 80).crop((0, 0, *size))
    values = np.asarray(image)
    whole = np.pad(values, [(0, -size[1] % 16), (0, -size[0] % 16), (0, 0)], mode="symmetric")
    assert piqe([image]).tolist() == piqe([whole]).tolist()


def test_a_score_does_not_depend_on_the_batch() -> None:
    batch = [photograph(64, 64), photograph(80, 50), Image.new("RGB", (16, 16))]
    assert piqe(batch).tolist() == [piqe([image])[0] for image in batch]
