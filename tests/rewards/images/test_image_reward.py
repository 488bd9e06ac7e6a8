"""ImageReward: BLIP and its head written out with the names of the authors' file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from guided.errors import GuidedError, RewardError
from guided.rewards.images import image_reward as module
from guided.rewards.images.image_reward import image_reward
from guided.rewards.support.hub import clip_pixels
from guided.scoring.objective import resolve_reward
from tests.toys.settings import FOREIGN, foreign
from tests.toys.tinyclip import drawn

State = dict[str, Tensor]
VISION, TEXT, PATCH, SIDE, DEPTH = 64, 128, 8, 4, 2
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "two", "dogs", "in", "the", "park"]
PROMPTS = ["a cat", "two dogs in the park", "a zebra", ""]
MLP = {0: (9, TEXT), 2: (8, 9), 4: (7, 8), 6: (5, 7), 7: (1, 5)}


def shapes() -> dict[str, tuple[int, ...]]:
    v, t = "blip.visual_encoder.", "blip.text_encoder."
    made: dict[str, tuple[int, ...]] = {
        f"{v}cls_token": (1, 1, VISION),
        f"{v}pos_embed": (1, SIDE**2 + 1, VISION),
        f"{v}patch_embed.proj.weight": (VISION, 3, PATCH, PATCH),
        f"{v}patch_embed.proj.bias": (VISION,),
        f"{v}norm.weight": (VISION,),
        f"{v}norm.bias": (VISION,),
        f"{t}embeddings.word_embeddings.weight": (len(VOCABULARY) + 2, TEXT),
        f"{t}embeddings.position_embeddings.weight": (50, TEXT),
        "blip.vision_proj.weight": (3, VISION),  # two that the score does not read
        "blip.text_proj.bias": (3,),
    }
    dense = {}
    for i in range(DEPTH):
        block, layer = f"{v}blocks.{i}.", f"{t}encoder.layer.{i}."
        dense |= {f"{block}attn.qkv": (3 * VISION, VISION), f"{block}attn.proj": (VISION, VISION)}
        dense |= {f"{block}mlp.fc1": (30, VISION), f"{block}mlp.fc2": (VISION, 30)}
        for place, width in (("attention", TEXT), ("crossattention", VISION)):
            dense |= {f"{layer}{place}.self.query": (TEXT, TEXT), f"{layer}{place}.output.dense": (TEXT, TEXT)}
            dense |= {f"{layer}{place}.self.{part}": (TEXT, width) for part in ("key", "value")}
        dense |= {f"{layer}intermediate.dense": (40, TEXT), f"{layer}output.dense": (TEXT, 40)}
        norms = {f"{block}norm{k}": VISION for k in (1, 2)}
        norms |= {f"{layer}{place}output.LayerNorm": TEXT for place in ("attention.", "crossattention.", "")}
        made |= {f"{name}.{kind}": (width,) for name, width in norms.items() for kind in ("weight", "bias")}
    made |= {f"{t}embeddings.LayerNorm.{kind}": (TEXT,) for kind in ("weight", "bias")}
    dense |= {f"mlp.layers.{i}": shape for i, shape in MLP.items()}
    return made | {f"{k}.weight": s for k, s in dense.items()} | {f"{k}.bias": s[:1] for k, s in dense.items()}


def blip(seed: int = 0) -> State:
    source = torch.Generator().manual_seed(seed)
    state = {name: 0.4 * torch.randn(shape, generator=source) for name, shape in shapes().items()}
    return state | {"blip.text_encoder.embeddings.position_ids": torch.arange(50)[None]}


def dense(x: Tensor, name: str, state: State) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def normed(x: Tensor, name: str, state: State, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads of 64 features."""
    q, k, v = (x.reshape(len(x), -1, x.shape[-1] // 64, 64).transpose(1, 2) for x in (q, k, v))
    return ((q @ k.transpose(-1, -2) / 8).softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def see(images: list[Image.Image], state: State) -> Tensor:
    v = "blip.visual_encoder."
    weight, bias = (state[f"{v}patch_embed.proj.{kind}"] for kind in ("weight", "bias"))
    patches = F.conv2d(clip_pixels(images, PATCH * SIDE), weight, bias, stride=PATCH).flatten(2).transpose(1, 2)
    x = torch.cat([state[f"{v}cls_token"].expand(len(images), 1, VISION), patches], dim=1) + state[f"{v}pos_embed"]
    for i in range(DEPTH):
        block = f"{v}blocks.{i}."
        q, k, values = dense(normed(x, f"{block}norm1", state, 1e-6), f"{block}attn.qkv", state).chunk(3, dim=-1)
        x = x + dense(attended(q, k, values), f"{block}attn.proj", state)
        y = F.gelu(dense(normed(x, f"{block}norm2", state, 1e-6), f"{block}mlp.fc1", state))
        x = x + dense(y, f"{block}mlp.fc2", state)
    return normed(x, f"{v}norm", state, 1e-6)


def understand(prompt: str, seen: Tensor, state: State) -> Tensor:
    """One prompt, without padding."""
    t = "blip.text_encoder."
    tokens = [VOCABULARY.index(word) if word in VOCABULARY else 1 for word in prompt.split()][:33]
    tokens = [2, *tokens, 3]
    x = state[f"{t}embeddings.word_embeddings.weight"][tokens]
    x = (x + state[f"{t}embeddings.position_embeddings.weight"][: len(tokens)])[None]
    x = normed(x, f"{t}embeddings.LayerNorm", state, 1e-12)
    for i in range(DEPTH):
        layer = f"{t}encoder.layer.{i}."
        for place, other in (("attention", None), ("crossattention", seen)):
            to, start = x if other is None else other, f"{layer}{place}."
            parts = [dense(y, f"{start}self.{part}", state) for y, part in ((x, "query"), (to, "key"), (to, "value"))]
            y = dense(attended(*parts), f"{start}output.dense", state)
            x = normed(x + y, f"{start}output.LayerNorm", state, 1e-12)
        y = dense(F.gelu(dense(x, f"{layer}intermediate.dense", state)), f"{layer}output.dense", state)
        x = normed(x + y, f"{layer}output.LayerNorm", state, 1e-12)
    return x[:, 0]


def by_hand(images: list[Image.Image], prompts: list[str], state: State) -> np.ndarray:
    scores = []
    for image, prompt in zip(images, prompts, strict=True):
        x = understand(prompt, see([image], state), state)
        for i in MLP:
            x = dense(x, f"mlp.layers.{i}", state)
        scores.append((x.item() - 0.16717362830052426) / 1.0333394966054072)
    return np.array(scores)


@pytest.fixture
def words(tmp_path: Path) -> str:
    folder = tmp_path / "words"
    transformers.BertTokenizer(vocab={word: i for i, word in enumerate(VOCABULARY)}).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def file(tmp_path: Path) -> str:
    torch.save(blip(), tmp_path / "ImageReward.pt")
    return str(tmp_path / "ImageReward.pt")


def test_it_is_the_authors_network(file: str, words: str) -> None:
    images = [*drawn(3), *drawn(1, 70, 30, seed=1)]
    wanted = by_hand(images, PROMPTS, blip())
    assert image_reward(images, file, words, PROMPTS) == pytest.approx(wanted, abs=1e-4)
    objective = resolve_reward(f"image_reward?weights={file}&tokenizer={words}")
    assert objective(images, PROMPTS).numpy() == pytest.approx(wanted, abs=1e-4)
    assert np.ptp(wanted) > 0.05
    long = ["a cat in the park " * 10, "a cat in the park " * 7]  # 35 words with the two that mark start and end
    assert image_reward(images[:2], file, words, long) == pytest.approx(by_hand(images[:2], long, blip()), abs=1e-4)
    with pytest.raises(RewardError, match="there are none"):
        objective(images)


def test_pictures_and_prompts_both_matter_and_the_batch_does_not(file: str, words: str) -> None:
    images = drawn(4)
    together = image_reward(images, file, words, PROMPTS)
    alone = [image_reward([image], file, words, [prompt])[0] for image, prompt in zip(images, PROMPTS, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert np.ptp(image_reward(images, file, words, ["a cat"] * 4)) > 0.01
    assert np.ptp(image_reward(images[:1] * 4, file, words, PROMPTS)) > 0.01
    assert image_reward([], file, words, []).shape == (0,)
    assert image_reward([images], file, words, ["a cat"])[0] == pytest.approx(
        image_reward(images, file, words, ["a cat"] * 4).mean(), abs=1e-4
    )


def test_a_batch_is_one_call(file: str, words: str) -> None:
    rows: list[int] = []
    network: Any = module._blip(words, "float32", *module.version(file))
    network.head.register_forward_hook(lambda layer, given, made: rows.append(len(made)))
    scores = image_reward(drawn(4), file, words, PROMPTS)
    assert rows == [4]
    network.parts.size = 3
    assert image_reward(drawn(4), file, words, PROMPTS) == pytest.approx(scores, abs=1e-4)
    assert rows == [4, 3, 1]


def without(part: str) -> State:
    return {key: value for key, value in blip().items() if part not in key}


WRONG: dict[str, tuple[State, str]] = {
    "no head": (without("mlp.layers.7"), "ImageReward's head: linear layers"),
    "no vision": (without("visual_encoder"), "is not its file, there is no 'embeddings.patch_embedding.weight'"),
    "no text": (without("text_encoder"), "is not its file, there is no 'embeddings.word_embeddings.weight'"),
    "no cross attention": (without("crossattention"), "there is no 'encoder.layer.0.crossattention"),
    "a missing layer": (
        without("blocks.1.norm1.bias"),
        "vision network: the file has no 'encoder.layers.1.layer_norm1",
    ),
    "other words": (
        blip() | {"blip.text_encoder.embeddings.word_embeddings.weight": torch.zeros(99, TEXT)},
        "are 12, ImageReward's are 97",
    ),
}


@pytest.mark.parametrize(("state", "said"), WRONG.values(), ids=WRONG)
def test_another_file_is_refused(tmp_path: Path, words: str, state: State, said: str) -> None:
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(GuidedError) as caught:
        resolve_reward(f"image_reward?weights={tmp_path / 'other.pt'}&tokenizer={words}")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_missing_ones_are_one_line(tmp_path: Path, file: str, words: str) -> None:
    with pytest.raises(GuidedError, match="ImageReward: there is no file"):
        resolve_reward(f"image_reward?weights={tmp_path / 'none.pt'}&tokenizer={words}")
    with pytest.raises(GuidedError, match="cannot load ImageReward's tokenizer"):
        resolve_reward(f"image_reward?weights={file}&tokenizer={tmp_path / 'none'}")


@pytest.mark.parametrize("name", FOREIGN)
def test_settings_of_torch_change_nothing(file: str, words: str, name: str) -> None:
    wanted = image_reward(drawn(4), file, words, PROMPTS).tolist()
    module._blip.cache_clear()
    with foreign(name):
        assert image_reward(drawn(4), file, words, PROMPTS).tolist() == wanted
