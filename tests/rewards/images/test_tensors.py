"""Rewards on tensors of pixels: the scores of the same PIL images, on the pixels' device, and no image is made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import guided
from guided.adapters.diffusers import wrap
from guided.errors import GuidedError
from guided.rewards.images import appearance
from guided.rewards.images.clip import Clip, aesthetic, clip_score, load_clip
from guided.rewards.images.image_reward import image_reward
from guided.rewards.images.pixels import frames
from guided.rewards.images.preference import hpsv2, pickscore
from guided.rewards.support.hub import clip_pixels, placed
from guided.samplers import SVDD
from guided.scoring.objective import resolve_reward
from guided.scoring.registry import rewards
from tests.adapters.diffusers.pipelines.families import build
from tests.rewards.images.test_image_reward import VOCABULARY, blip
from tests.toys import tinyclip
from tests.toys.tinyclip import PROMPTS, SIZE, drawn

Reward = Callable[..., Any]
APPEARANCE: dict[str, Reward] = {
    "brightness": appearance.brightness,
    "contrast": appearance.contrast,
    "colourfulness": appearance.colourfulness,
    "target_colour": lambda samples: appearance.target_colour(samples, "teal"),
    "symmetry": appearance.symmetry,
    "sharpness": appearance.sharpness,
}
SIZES = [(40, 36), (36, 70), (32, 32), (80, 31)]


@pytest.mark.parametrize("name", [*APPEARANCE, "clip_score", "aesthetic", "pickscore", "hpsv2", "image_reward"])
def test_runs_give_pixels(name: str) -> None:
    assert (rewards()[name].takes, rewards()[name].modality) == ("pixels", "images")


def tensor(images: list[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).movedim(-1, 1)


class Recorded(TorchDispatchMode):
    """The operations that hand a tensor's values to the host, where the device would have to be waited for."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITING or name.startswith("unique"):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("reward", APPEARANCE.values(), ids=APPEARANCE)
@pytest.mark.parametrize("size", SIZES)
def test_what_the_pixels_score_alone(reward: Reward, size: tuple[int, int]) -> None:
    images = [*drawn(5, *size), Image.new("RGB", size, "#123456")]
    found = reward(tensor(images))
    assert isinstance(found, Tensor) and found.shape == (6,)
    assert found.numpy() == pytest.approx(reward(images), abs=1e-6, rel=1e-9)
    assert np.ptp(found.numpy()) > 1e-3


def test_the_published_numbers_hold_for_large_images() -> None:
    """Whole numbers are added, so that 4 million pixels of nearly one level have the exact moments."""
    levels = np.full((1, 3, 2000, 2000), 254, dtype=np.uint8)
    levels[..., ::2] = 255
    x = torch.from_numpy(levels)
    assert float(appearance.brightness(x)) == pytest.approx(254.5 / 255, abs=1e-12)
    assert float(appearance.contrast(x)) == pytest.approx(0.5 / 255, abs=1e-12)
    assert float(appearance.sharpness(x)) == pytest.approx(4, abs=1e-9)


def folders(tmp_path: Path) -> tuple[str, dict[str, Reward]]:
    """A tiny network behind each reward, as `reward(samples, prompts, precision)`."""
    folder, words = str(tmp_path / "clip"), str(tmp_path / "words")
    tinyclip.network("gelu").save_pretrained(folder)
    tinyclip.save_words(Path(folder))
    transformers.BertTokenizer(vocab={word: i for i, word in enumerate(VOCABULARY)}).save_pretrained(words)
    head, hps, reward = (str(tmp_path / f"{name}.pt") for name in ("head", "hps", "reward"))
    generator = torch.Generator().manual_seed(0)
    torch.save({"weight": torch.randn(1, 12, generator=generator), "bias": torch.ones(1)}, head)
    torch.save(tinyclip.network("gelu", seed=1).state_dict(), hps)
    torch.save(blip(), reward)
    return folder, {
        "clip_score": lambda x, p, precision="float32": clip_score(x, folder, p, precision),
        "aesthetic": lambda x, p, precision="float32": aesthetic(x, head, folder, precision),
        "pickscore": lambda x, p, precision="float32": pickscore(x, folder, p, precision),
        "hpsv2": lambda x, p, precision="float32": hpsv2(x, hps, folder, p, precision),
        "image_reward": lambda x, p, precision="float32": image_reward(x, reward, words, p, precision),
    }


NETWORKS = ("clip_score", "aesthetic", "pickscore", "hpsv2", "image_reward")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", SIZES)
def test_what_a_network_scores(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    reward, images = folders(tmp_path)[1][name], drawn(4, *size)
    found = reward(tensor(images), PROMPTS)
    assert isinstance(found, Tensor) and found.dtype == torch.float32
    assert found.numpy() == pytest.approx(reward(images, PROMPTS), abs=1e-5, rel=1e-6)
    assert np.ptp(found.numpy()) > 1e-3


@pytest.mark.parametrize("size", [*SIZES, (224, 224), (97, 300), (500, 332), (3, 900)])
@pytest.mark.parametrize("whole", [False, True])
def test_pixels_are_prepared_as_images_are(size: tuple[int, int], whole: bool) -> None:
    images = drawn(2, *size)
    assert torch.equal(clip_pixels(tensor(images), SIZE, whole), clip_pixels(images, SIZE, whole))


@pytest.mark.parametrize("name", ["brightness", "clip_score"])
def test_videos_score_the_mean_over_frames_and_no_samples_score_nothing(tmp_path: Path, name: str) -> None:
    reward: Reward = appearance.brightness
    if name == "clip_score":
        network = folders(tmp_path)[1][name]

        def reward(x: Any) -> Any:
            return network(x, PROMPTS[: len(x)])

    videos = [drawn(3, seed=seed) for seed in (0, 1)]
    pixels = torch.stack([tensor(video) for video in videos])
    found = reward(pixels)
    assert isinstance(found, Tensor) and found.shape == (2,)
    assert found.numpy() == pytest.approx(reward(videos), abs=1e-5)
    for none in (pixels[:0], pixels[:0, 0]):
        assert isinstance(reward(none), Tensor) and reward(none).shape == (0,)


@pytest.mark.parametrize("name", [*APPEARANCE, *NETWORKS])
def test_no_image_is_made_and_the_device_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pixels = tensor(drawn(4))
    networks = folders(tmp_path)[1]
    reward = APPEARANCE.get(name) or (lambda x: networks[name](x, PROMPTS))
    wanted = reward(pixels)  # prompts and weights are read, and Pillow is asked about the size
    monkeypatch.setattr(Image, "fromarray", None)
    with Recorded() as recorded:
        found = reward(pixels)
    once = ["is_nonzero"] if name == "image_reward" else []  # BLIP of transformers asks whether prompts are padded
    assert recorded.found in ([], once) and torch.equal(found, wanted)


@pytest.mark.parametrize("name", ["brightness", "clip_score"])
def test_look_aheads_of_a_run_are_scored_without_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And the samples are those of the same reward on images."""
    folder, networks = folders(tmp_path)
    model = wrap(build("sd-v"), steps=3)
    spec = f"clip_score?model={folder}" if name == "clip_score" else name

    def by_images(samples: Any, prompts: Any = None) -> Any:
        images = [image.copy() for image in samples]
        return appearance.brightness(images) if name == "brightness" else networks[name](images, prompts)

    options: dict[str, Any] = {"n": 2, "prompt": "red cat", "guidance": 1.0, "seed": 1}
    wanted = guided.sample(model, by_images, SVDD(M=3), **options)
    made: list[Any] = []
    fromarray = Image.fromarray
    monkeypatch.setattr(Image, "fromarray", lambda array: (made.append(1), fromarray(array))[1])
    monkeypatch.setattr("guided.rewards.support.resize.vertical_first", lambda *_: False)  # which asks Pillow
    found = guided.sample(model, spec, SVDD(M=3), **options)
    assert [a.tobytes() for a in found.samples] == [b.tobytes() for b in wanted.samples]
    assert found.columns["reward"] == pytest.approx(wanted.columns["reward"], abs=1e-4)
    assert len(made) == 2  # the samples


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(tmp_path: Path, name: str, dtype: str) -> None:
    reward, pixels = folders(tmp_path)[1][name], tensor(drawn(4))
    whole, half = (reward(pixels, PROMPTS, each) for each in ("float32", dtype))
    assert half.dtype == torch.float32
    difference, spread = (half - whole).abs().max(), whole.max() - whole.min()
    assert 0 < difference < (0.3 if dtype == "bfloat16" else 0.05) * spread


def test_a_precision_has_a_network_of_its_own(tmp_path: Path) -> None:
    folder, _ = folders(tmp_path)
    whole, half = load_clip(folder, "float32"), load_clip(folder, "bfloat16")
    assert whole.network.dtype == torch.float32 and half.network.dtype == torch.bfloat16
    assert whole.scale == half.scale == pytest.approx(np.exp(3))
    spec = f"clip_score?model={folder}&precision="
    assert resolve_reward(spec + "bfloat16").identity != resolve_reward(spec + "float32").identity
    for wrong in ("half", "float64"):
        with pytest.raises(GuidedError, match=rf"float32.*tf32.*bfloat16.*float16.*{wrong}|{wrong}.*float32"):
            resolve_reward(spec + wrong)


def test_a_network_is_moved_once_and_works_where_the_pixels_are() -> None:
    """On a device without data, which knows shapes and places only."""
    moved: list[torch.device] = []

    class Network(torch.nn.Linear):
        def to(self, *args: Any, **kwargs: Any) -> Any:
            moved.append(args[0])
            return super().to(*args, **kwargs)

    network, meta = Network(2, 2), torch.device("meta")
    for place in (torch.device("cpu"), meta, meta):
        assert next(placed(network, place).parameters()).device == place
    assert moved == [meta]
    clip = Clip(tinyclip.network(), "drawn", 1.0)
    u = clip.images(torch.zeros(3, 3, 50, 40, dtype=torch.uint8, device=meta))
    assert u.device == meta and u.shape == (3, 12)
    for reward in APPEARANCE.values():
        assert reward(torch.zeros(3, 3, 50, 40, dtype=torch.uint8, device=meta)).device == meta


def test_out_of_memory_halves_the_rows_of_a_network(tmp_path: Path) -> None:
    folder, rewards = folders(tmp_path)
    pixels, rows = tensor(drawn(4)), []
    wanted = rewards["clip_score"](pixels, PROMPTS)

    def limited(layer: Any, given: Any, made: Any) -> None:
        rows.append(len(made))
        if len(made) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    load_clip(folder, "float32").network.visual_projection.register_forward_hook(limited)
    for _ in range(2):
        found = rewards["clip_score"](pixels, PROMPTS)
        assert torch.allclose(found, wanted, atol=1e-4)
    assert rows == [4, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "pixels", [torch.zeros(2, 4, 8, 8), torch.zeros(2, 3, 0, 8), torch.zeros(2, 0, 3, 8, 8), torch.zeros(2, 8, 8, 3)]
)
def test_other_shapes_are_refused(pixels: Tensor) -> None:
    with pytest.raises(GuidedError, match="an image is a PIL image"):
        frames(pixels.to(torch.uint8), tensors=True)
    with pytest.raises(GuidedError, match="at least 3 x 3 pixels, given 8 x 2"):
        appearance.sharpness(torch.zeros(1, 3, 2, 8, dtype=torch.uint8))
