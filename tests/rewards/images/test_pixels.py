"""Samples as pictures: every accepted form is the same picture, videos are means, anything else is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from guided.errors import RewardError
from guided.rewards.images.appearance import brightness, target_colour
from guided.rewards.images.pixels import frames, mean_over_frames, per_image, prompts_of
from guided.scoring.objective import resolve_reward

Bytes = NDArray[np.uint8]


def drawn(*shape: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def arrays(samples: Any) -> list[Any]:
    return [np.asarray(image).tolist() for image in frames(samples).images]


BATCH = drawn(4, 5, 7)
CHANNELS_FIRST = torch.from_numpy(BATCH).movedim(-1, -3)
FORMS: dict[str, Any] = {
    "PIL": [Image.fromarray(x) for x in BATCH],
    "tuple of PIL": tuple(Image.fromarray(x) for x in BATCH),
    "uint8 array": BATCH,
    "float32 array": (BATCH / 255).astype(np.float32),
    "float64 array": BATCH / 255,
    "list of arrays": list(BATCH),
    "list of float arrays": list(BATCH / 255),
    "uint8 tensor": CHANNELS_FIRST,
    "float tensor": CHANNELS_FIRST / 255,
    "list of tensors": list(CHANNELS_FIRST / 255),
    "tensor with a gradient": (CHANNELS_FIRST / 255).requires_grad_(),
    "views": BATCH[:, ::-1][:, ::-1],
    "mixed": [Image.fromarray(BATCH[0]), BATCH[1], CHANNELS_FIRST[2], BATCH[3] / 255],
}


@pytest.mark.parametrize("samples", FORMS.values(), ids=FORMS)
def test_every_form_is_the_same_picture(samples: Any) -> None:
    assert arrays(samples) == BATCH.tolist()
    assert frames(samples).owner.tolist() == [0, 1, 2, 3] and frames(samples).samples == 4
    assert all(image.mode == "RGB" and image.size == (7, 5) for image in frames(samples).images)


def test_half_precision_is_the_nearest_of_256_levels() -> None:
    values = torch.linspace(0, 1, 300).reshape(1, 1, 1, 300).expand(1, 3, 2, 300)
    for dtype in (torch.bfloat16, torch.float16):
        rounded = values.to(dtype)
        wanted = (rounded.double() * 255).round().to(torch.uint8).movedim(1, -1)
        assert arrays(rounded) == wanted.tolist()


def test_what_rounding_moves_is_no_range_error() -> None:
    edge = np.array([-0.0019, 1.0019, 0.5]).reshape(1, 1, 1, 3)
    assert arrays(edge) == [[[[0, 255, 128]]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "LA", "HSV"])
def test_other_modes_of_8_bits_become_rgb(mode: str) -> None:
    image = Image.fromarray(BATCH[0]).convert(mode)
    assert arrays([image]) == [np.asarray(image.convert("RGB")).tolist()]


VIDEO = drawn(2, 3, 5, 7, seed=1)
VIDEOS: dict[str, Any] = {
    "lists of PIL": [[Image.fromarray(x) for x in video] for video in VIDEO],
    "array": VIDEO,
    "list of arrays": list(VIDEO),
    "tensor": torch.from_numpy(VIDEO).movedim(-1, -3) / 255,
    "lists of tensors": [list(video) for video in torch.from_numpy(VIDEO).movedim(-1, -3)],
}


@pytest.mark.parametrize("samples", VIDEOS.values(), ids=VIDEOS)
def test_a_video_scores_the_mean_over_its_frames(samples: Any) -> None:
    by_frame = brightness(VIDEO.reshape(6, 5, 7, 3)).reshape(2, 3)
    assert np.ptp(by_frame) > 0.01
    assert brightness(samples) == pytest.approx(by_frame.mean(axis=1), abs=1e-12)
    assert frames(samples).owner.tolist() == [0, 0, 0, 1, 1, 1]


def test_sizes_and_lengths_may_differ() -> None:
    batch = [drawn(3, 9), [drawn(8, 8), drawn(1, 1)], drawn(3, 4, 4)]
    assert frames(batch).owner.tolist() == [0, 1, 1, 2, 2, 2]
    alone = [brightness([sample])[0] for sample in batch]
    assert brightness(batch).tolist() == pytest.approx(alone, abs=1e-12)


def test_the_mean_is_each_samples_own() -> None:
    batch = frames([[BATCH[0], BATCH[1]], BATCH[2], BATCH[:3]])
    assert mean_over_frames(batch, [1, 3, 10, -1, -2, -6]).tolist() == [2, 10, -3]
    assert per_image([], lambda image: 1.0).shape == (0,)


WRONG: dict[str, Any] = {
    "channels first": np.zeros((2, 3, 8, 8)),
    "channels last": torch.zeros(2, 8, 8, 3),
    "grey": np.zeros((2, 8, 8)),
    "four channels": [np.zeros((8, 8, 4), np.uint8)],
    "minus one to one": [np.linspace(-1, 1, 192).reshape(8, 8, 3)],
    "a little beyond": [np.full((8, 8, 3), 1.01)],
    "floats to 255": [np.full((8, 8, 3), 255.0)],
    "not a number": [np.full((8, 8, 3), np.nan)],
    "integers": [np.zeros((8, 8, 3), np.int64)],
    "booleans": torch.zeros(1, 3, 8, 8, dtype=torch.bool),
    "no pixels": [np.zeros((0, 8, 3), np.uint8)],
    "no frames": [[]],
    "16 bits": [Image.new("I;16", (8, 8))],
    "32 bits": [Image.new("F", (8, 8))],
    "none": [None],
    "text": ["a.png"],
    "one picture": Image.new("RGB", (8, 8)),
    "one array": np.zeros((8, 8, 3)),
    "a name": "a.png",
}


@pytest.mark.parametrize("samples", WRONG.values(), ids=WRONG)
def test_anything_else_is_refused_and_what_is_accepted_is_said(samples: Any) -> None:
    with pytest.raises(ValueError, match=r"given .+") as caught:
        frames(samples)
    said = str(caught.value)
    assert "\n" not in said and any(part in said for part in ("uint8 or floats in [0, 1]", "a list", "8 bits"))


def test_an_objective_takes_every_form() -> None:
    wanted = target_colour(FORMS["PIL"], "red")
    for samples in (FORMS["PIL"], FORMS["uint8 array"], FORMS["float tensor"], FORMS["mixed"]):
        assert resolve_reward("target_colour?colour=red")(samples).tolist() == pytest.approx(wanted)
    with pytest.raises(RewardError, match=r"floats in \[0, 1\]"):
        resolve_reward("brightness")([np.full((8, 8, 3), 255.0)])


def test_each_frame_has_its_samples_prompt() -> None:
    batch = frames([[BATCH[0], BATCH[1]], BATCH[2]])
    assert prompts_of(batch, ["a", "b"]) == ["a", "a", "b"]
    with pytest.raises(RewardError, match="give the run prompts"):
        prompts_of(batch, None)
    with pytest.raises(ValueError, match="3 prompts for 2 samples"):
        prompts_of(batch, ["a", "b", "c"])
