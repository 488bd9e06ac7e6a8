"""Resizing on tensors: Pillow's result to the last bit, for any size and kernel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from guided.rewards.support import resize as module
from guided.rewards.support.resize import KERNELS, resize

sides = st.integers(1, 90)
kernels = st.sampled_from(sorted(KERNELS))


def by_pillow(x: torch.Tensor, height: int, width: int, kernel: str) -> torch.Tensor:
    images = [Image.fromarray(image.movedim(0, -1).numpy()) for image in x]
    method = getattr(Image.Resampling, kernel.upper())
    return torch.stack([torch.from_numpy(np.array(image.resize((width, height), method))) for image in images]).movedim(
        -1, 1
    )


def drawn(n: int, height: int, width: int, seed: int = 0, extreme: bool = False) -> torch.Tensor:
    x = np.random.default_rng(seed).integers(0, 256, (n, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(np.where(x > 127, 255, 0).astype(np.uint8) if extreme else x)


@settings(max_examples=150, deadline=None)
@given(sides, sides, sides, sides, kernels, st.integers(0, 9), st.booleans())
def test_every_pixel_is_pillows(
    height: int, width: int, to_height: int, to_width: int, kernel: str, seed: int, extreme: bool
) -> None:
    x = drawn(2, height, width, seed, extreme)  # extremes overshoot, and are clipped between the passes
    found = resize(x, to_height, to_width, kernel)
    assert found.dtype == torch.uint8
    assert torch.equal(found, by_pillow(x, to_height, to_width, kernel))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(512, 512, 224, 224), (64, 64, 224, 224), (480, 640, 224, 298), (700, 100, 64, 301)])
def test_sizes_as_models_have_them(size: tuple[int, int, int, int], kernel: str) -> None:
    height, width, to_height, to_width = size
    x = drawn(1, height, width)
    assert torch.equal(resize(x, to_height, to_width, kernel), by_pillow(x, to_height, to_width, kernel))


@given(sides, sides, sides, sides, kernels, st.integers(0, 255))
@settings(max_examples=30, deadline=None)
def test_a_plain_image_stays_plain(
    height: int, width: int, to_height: int, to_width: int, kernel: str, level: int
) -> None:
    x = torch.full((1, 3, height, width), level, dtype=torch.uint8)
    assert (resize(x, to_height, to_width, kernel) == level).all()


def test_any_axes_may_be_in_front_and_the_size_may_be_its_own() -> None:
    x = drawn(6, 20, 30)
    assert torch.equal(resize(x.view(2, 3, 3, 20, 30), 7, 50).flatten(0, 1), resize(x, 7, 50))
    assert torch.equal(resize(x, 20, 30), x)
    assert torch.equal(resize(x, 20, 9), by_pillow(x, 20, 9, "bicubic"))
    assert torch.equal(resize(x.movedim(1, -1).contiguous().movedim(-1, 1), 9, 30), by_pillow(x, 9, 30, "bicubic"))


def test_the_weights_of_a_size_are_computed_once_and_pillow_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = drawn(2, 33, 47)
    wanted = resize(x, 21, 60)
    monkeypatch.setattr(module, "_weights", None)
    monkeypatch.setattr(module.Image, "fromarray", None)
    assert torch.equal(resize(x, 21, 60), wanted)
