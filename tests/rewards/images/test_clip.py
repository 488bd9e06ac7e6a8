"""Rewards by CLIP: transformers' own preparation and scores agree, predictors are read, wrong ones are refused."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from guided.errors import GuidedError, RewardError
from guided.rewards.images import clip as module
from guided.rewards.images.clip import aesthetic, clip_score, load_clip
from guided.rewards.support.hub import MEAN, STD, clip_pixels
from guided.scoring.objective import resolve_reward
from tests.toys import tinyclip
from tests.toys.settings import FOREIGN, foreign
from tests.toys.tinyclip import PROMPTS, SIZE, drawn, prepared

MLP = {0: (7, 12), 2: (6, 7), 4: (5, 6), 6: (3, 5), 7: (1, 3)}
SIZES = [(224, 224), (512, 512), (640, 480), (481, 641), (64, 64), (225, 224), (97, 300), (32, 500)]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    tinyclip.network().save_pretrained(tmp_path)
    tinyclip.save_words(tmp_path)
    return str(tmp_path)


def reference(folder: str, images: list[Image.Image], prompts: list[str]) -> Any:
    """The output of transformers' CLIP for all pairs."""
    network = transformers.CLIPModel.from_pretrained(folder).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)(
        prompts, padding=True, truncation=True, max_length=40, return_tensors="pt"
    )
    with torch.no_grad():
        return network(pixel_values=prepared(images), **words)


@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_prepared_as_clip_was_trained(size: tuple[int, int]) -> None:
    (image,) = drawn(1, *size)
    values = clip_pixels([image], 224)
    assert values.shape == (1, 3, 224, 224) and values.dtype == torch.float32
    assert (values - prepared([image], 224)).abs().max() < 1e-5


def test_the_constants_are_the_published_ones() -> None:
    plain = clip_pixels([Image.new("RGB", (30, 50), (255, 0, 51))], SIZE)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    wanted = [(1 - mean[0]) / std[0], (0 - mean[1]) / std[1], (0.2 - mean[2]) / std[2]]
    assert plain[0].reshape(3, -1).numpy() == pytest.approx(np.array(wanted)[:, None] * np.ones((1, SIZE**2)), abs=1e-5)
    assert (mean, std) == (MEAN, STD)


def test_the_middle_is_cut_out_or_the_whole_is_kept() -> None:
    image = Image.new("RGB", (2 * SIZE, SIZE), "white")
    image.paste("red", (0, 0, SIZE // 2, SIZE))
    image.paste("red", (2 * SIZE - SIZE // 2, 0, 2 * SIZE, SIZE))
    white, black = ((colour - np.array(MEAN)) / STD for colour in (1, 0))
    middle = clip_pixels([image], SIZE)[0].movedim(0, -1).numpy()
    assert middle[:, 2:-2] == pytest.approx(np.broadcast_to(white, (SIZE, SIZE - 4, 3)), abs=1e-5)
    whole = clip_pixels([image, image.transpose(Image.Transpose.ROTATE_90)], SIZE, whole=True).movedim(1, -1).numpy()
    beside = np.broadcast_to(black, (SIZE // 4, SIZE, 3))
    assert whole[0, : SIZE // 4] == pytest.approx(beside, abs=1e-5)
    assert whole[0, -SIZE // 4 :] == pytest.approx(beside, abs=1e-5)
    assert whole[0, SIZE // 2, SIZE // 2] == pytest.approx(white, abs=1e-5)
    assert whole[0, SIZE // 2, 1] == pytest.approx((np.array([1, 0, 0]) - MEAN) / STD, abs=1e-5)
    assert whole[1] == pytest.approx(np.rot90(whole[0]), abs=1e-5)
    square = drawn(1, 50, 50)
    assert torch.equal(clip_pixels(square, SIZE), clip_pixels(square, SIZE, whole=True))


def test_of_an_odd_rest_the_smaller_half_is_left_and_above() -> None:
    """As OpenCLIP pads; and as CLIP's processor cuts, the smaller half is cut there."""
    image = Image.new("RGB", (SIZE - 5, SIZE), "white")
    black = (clip_pixels([image], SIZE, whole=True)[0, 0, 5] < 0).tolist()
    assert black == [True] * 2 + [False] * (SIZE - 5) + [True] * 3
    turned = image.transpose(Image.Transpose.ROTATE_90)
    assert (clip_pixels([turned], SIZE, whole=True)[0, 0, :, 5] < 0).tolist() == black
    levels = np.broadcast_to(np.arange(SIZE + 5, dtype=np.uint8)[None, :, None], (SIZE, SIZE + 5, 3))
    middle = clip_pixels([Image.fromarray(levels)], SIZE)[0, 0, 0]
    assert torch.allclose(middle, (torch.arange(SIZE) + 2) / 255 / STD[0] - MEAN[0] / STD[0], atol=1e-5)


def test_clip_score_is_100_cosines(folder: str) -> None:
    images = drawn(4)
    wanted = reference(folder, images, PROMPTS).logits_per_image.diagonal() * 100 / np.exp(3)
    assert clip_score(images, folder, PROMPTS) == pytest.approx(wanted.numpy(), abs=1e-3)
    assert resolve_reward(f"clip_score?model={folder}")(images, PROMPTS).numpy() == pytest.approx(wanted, abs=1e-3)
    assert np.ptp(wanted.numpy()) > 1 and abs(wanted[0] - wanted[2]) > 0.1
    assert clip_score([images[:2], images[2]], folder, ["a cat", "a dog"])[0] == pytest.approx(
        clip_score(images[:2], folder, ["a cat", "a cat"]).mean(), abs=1e-3
    )


def test_a_score_does_not_depend_on_the_batch(folder: str) -> None:
    images = [*drawn(2), *drawn(2, 70, 33)]
    alone = [clip_score([image], folder, [prompt])[0] for image, prompt in zip(images, PROMPTS, strict=True)]
    assert clip_score(images, folder, PROMPTS) == pytest.approx(alone, abs=1e-3)
    assert clip_score([], folder, []).shape == (0,)
    long = ["a" * 100, "a" * 100 + "b"]  # cut at the network's 40 words
    assert clip_score([images[0]] * 2, folder, long).tolist() == pytest.approx(
        [clip_score(images[:1], folder, long[:1])[0]] * 2, abs=1e-4
    )


def test_a_batch_is_one_call_and_a_prompt_is_read_once_and_alone(folder: str) -> None:
    rows: list[int] = []
    clip = load_clip(folder, "float32")
    for part in (clip.network.visual_projection, clip.network.text_projection):
        part.register_forward_hook(lambda layer, given, made: rows.append(len(made)))
    scores = clip_score(drawn(4), folder, PROMPTS)
    assert rows == [4, 1, 1, 1]
    clip.parts.size = 3
    rows.clear()
    assert clip_score(drawn(4), folder, PROMPTS) == pytest.approx(scores, abs=1e-3)
    assert rows == [3, 1]


def test_a_network_is_loaded_once(folder: str) -> None:
    assert load_clip(folder, "float32") is load_clip(folder, "float32")


def test_no_prompts_is_one_clear_error(folder: str) -> None:
    with pytest.raises(RewardError, match=r"^reward 'clip_score' judges images by their prompts, and there are none"):
        resolve_reward(f"clip_score?model={folder}", on_error="worst")(drawn(2))


# The predictors of beauty


def features(folder: str, images: list[Image.Image]) -> np.ndarray:
    return reference(folder, images, ["a"]).image_embeds.numpy()


def test_the_linear_predictor(folder: str, tmp_path: Path) -> None:
    weight, bias = torch.randn(1, 12), torch.tensor([5.0])
    torch.save({"weight": weight, "bias": bias}, tmp_path / "linear.pth")
    wanted = features(folder, drawn(3)) @ weight[0].numpy() + 5
    assert aesthetic(drawn(3), str(tmp_path / "linear.pth"), folder) == pytest.approx(wanted, abs=1e-4)
    spec = f"aesthetic?weights={tmp_path / 'linear.pth'}&model={folder}"
    assert resolve_reward(spec)(drawn(3)).numpy() == pytest.approx(wanted, abs=1e-4)
    assert resolve_reward(spec).identity["terms"][0]["files"].keys() == {"weights", "model"}


def mlp(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    weights = {f"layers.{i}.weight": torch.randn(shape) for i, shape in MLP.items()}
    return weights | {f"layers.{i}.bias": torch.randn(shape[0]) for i, shape in MLP.items()}


def test_the_layers_have_nothing_in_between(folder: str, tmp_path: Path) -> None:
    state, path = mlp(), str(tmp_path / "mlp.pth")
    torch.save(state, path)
    x = features(folder, drawn(3))
    for i in MLP:
        x = x @ state[f"layers.{i}.weight"].numpy().T + state[f"layers.{i}.bias"].numpy()
    assert aesthetic(drawn(3), path, folder) == pytest.approx(x[:, 0], abs=1e-3)
    torch.save(mlp(1), path)  # written again
    assert aesthetic(drawn(3), path, folder) != pytest.approx(x[:, 0], abs=1e-3)
    torch.save({name: value.half() for name, value in state.items()}, path)
    assert aesthetic(drawn(3), path, folder) == pytest.approx(x[:, 0], abs=0.1)


class Foreign:
    """Nothing that a file of weights has."""


WRONG: dict[str, tuple[Any, str]] = {
    "no layer": ({"weight": torch.zeros(1, 12)}, "linear layers weight, bias are accepted, given weight"),
    "another": ({"head.weight": torch.zeros(1, 12)}, "layers.7.bias are accepted, given head.weight"),
    "one less": ({k: v for k, v in mlp().items() if "4" not in k}, "layers.4.weight"),
    "two outputs": ({"weight": torch.zeros(2, 12), "bias": torch.zeros(2)}, "more than one output"),
    "unfit": (mlp() | {"layers.2.weight": torch.zeros(6, 8)}, "does not fit the next"),
    "short bias": ({"weight": torch.zeros(1, 12), "bias": torch.zeros(2)}, "another shape of '0.bias'"),
    "other features": ({"weight": torch.zeros(1, 9), "bias": torch.zeros(1)}, "a CLIP of 9 features"),
    "a list": ([torch.zeros(1)], "no table of tensors"),
    "code": ({"weight": Foreign()}, "is no file of weights"),
}


@pytest.mark.parametrize(("content", "said"), WRONG.values(), ids=WRONG)
def test_another_file_is_refused_before_anything_is_drawn(folder: str, tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(GuidedError) as caught:
        resolve_reward(f"aesthetic?weights={tmp_path / 'file.pth'}&model={folder}")
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_a_file_that_is_no_weights_is_refused(folder: str, tmp_path: Path, content: bytes) -> None:
    for name in ("file.pth", "file.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GuidedError, match="is no file of weights"):
            resolve_reward(f"aesthetic?weights={tmp_path / name}&model={folder}")
    with pytest.raises(GuidedError, match="there is no file"):
        resolve_reward(f"aesthetic?weights={tmp_path / 'none.pth'}&model={folder}")


# Wrong models


def refused(spec: str) -> str:
    with pytest.raises(GuidedError) as caught:
        resolve_reward(spec)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


def test_a_missing_model_is_one_line_that_says_what_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("nobody/no-such-clip", str(tmp_path), str(tmp_path / "none"), "no such name"):
        said = refused(f"clip_score?model={name}")
        assert name in said and "a name on the Hugging Face hub, with network, or a folder with config.json" in said


def test_another_network_is_refused(tmp_path: Path) -> None:
    transformers.BertConfig(hidden_size=8).save_pretrained(tmp_path)
    assert "is of type 'bert'; a CLIP of transformers, 'clip', is accepted" in refused(f"clip_score?model={tmp_path}")


def test_missing_weights_and_words_are_refused(folder: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    network = tinyclip.network()
    network.save_pretrained(other)
    assert str(other) in refused(f"clip_score?model={other}")  # no words
    tinyclip.network(words=99).save_pretrained(other)
    tinyclip.save_words(other)
    module.load_clip.cache_clear()
    module._tokenizer.cache_clear()
    assert "are 54, CLIP's are 99" in refused(f"clip_score?model={other}")
    state = network.state_dict()
    del state["visual_projection.weight"]
    network.save_pretrained(other, state_dict=state)
    module.load_clip.cache_clear()
    assert "has no weights for 'visual_projection.weight'" in refused(f"clip_score?model={other}")
    (other / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    module.load_clip.cache_clear()
    assert "cannot load the CLIP" in refused(f"clip_score?model={other}")


def test_a_missing_library_names_the_extra(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install guided"):
        resolve_reward(f"clip_score?model={folder}")


@pytest.mark.parametrize("name", FOREIGN)
def test_settings_of_torch_change_nothing(folder: str, tmp_path: Path, name: str) -> None:
    torch.save({"weight": torch.ones(1, 12), "bias": torch.ones(1)}, tmp_path / "linear.pth")
    specs = [f"clip_score?model={folder}", f"pickscore?model={folder}"]
    specs.append(f"aesthetic?weights={tmp_path / 'linear.pth'}&model={folder}")
    images, prompts = drawn(3), PROMPTS[:3]
    wanted = resolve_reward(specs).columns(images, prompts)
    for cached in (True, False):
        if not cached:
            module.load_clip.cache_clear()
            module._predictor.cache_clear()
        with foreign(name):
            assert resolve_reward(specs).columns(images, prompts) == wanted
