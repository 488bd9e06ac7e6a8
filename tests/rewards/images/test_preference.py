"""PickScore and HPS v2: transformers' own scores, and OpenCLIP's network written out with its names."""

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
from guided.rewards.images import clip, preference
from guided.rewards.images.preference import from_openclip, hpsv2, pickscore
from guided.rewards.support.hub import clip_pixels
from guided.scoring.objective import resolve_reward
from tests.toys import tinyclip
from tests.toys.settings import FOREIGN, foreign
from tests.toys.tinyclip import PROMPTS, SIZE, drawn, prepared

State = dict[str, Tensor]
VISION, TEXT, BOTH, PATCH = 20, 16, 12, 8


@pytest.fixture
def words(tmp_path: Path) -> Any:
    tinyclip.config("gelu").save_pretrained(tmp_path / "base")
    return tinyclip.save_words(tmp_path / "base")


@pytest.fixture
def base(tmp_path: Path, words: Any) -> str:
    return str(tmp_path / "base")


def test_pickscore_is_the_scaled_cosine(tmp_path: Path, base: str, words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = tinyclip.network("gelu"), drawn(4)
    for folder in ("pick", "whole"):
        network.save_pretrained(tmp_path / folder)
    with torch.no_grad():
        wanted = network(pixel_values=prepared(images), **words(PROMPTS, padding=True, return_tensors="pt"))
    wanted = wanted.logits_per_image.diagonal().numpy()
    monkeypatch.setattr(preference, "BASE", base)  # its words are those of its base
    assert pickscore(images, str(tmp_path / "pick"), PROMPTS) == pytest.approx(wanted, abs=1e-3)
    monkeypatch.setattr(preference, "BASE", str(tmp_path / "none"))
    tinyclip.save_words(tmp_path / "whole")
    objective = resolve_reward(f"pickscore?model={tmp_path / 'whole'}")
    assert objective(images, PROMPTS).numpy() == pytest.approx(wanted, abs=1e-3)
    assert np.ptp(wanted) > 1
    with pytest.raises(RewardError, match="there are none"):
        objective(images)


# OpenCLIP's network, by the names in its file


def shapes() -> dict[str, tuple[int, ...]]:
    made: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (VISION,),
        "visual.positional_embedding": ((SIZE // PATCH) ** 2 + 1, VISION),
        "visual.conv1.weight": (VISION, 3, PATCH, PATCH),
        "visual.proj": (VISION, BOTH),
        "token_embedding.weight": (len(tinyclip.WORDS), TEXT),
        "positional_embedding": (40, TEXT),
        "text_projection": (TEXT, BOTH),
        "logit_scale": (),
    }
    for norm, width in (("visual.ln_pre", VISION), ("visual.ln_post", VISION), ("ln_final", TEXT)):
        made |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for start, width, wide in (("visual.", VISION, 28), ("", TEXT, 24)):
        for i in range(2):
            layer = f"{start}transformer.resblocks.{i}"
            made |= {f"{layer}.ln_{k}.{kind}": (width,) for k in (1, 2) for kind in ("weight", "bias")}
            made |= {f"{layer}.attn.in_proj_weight": (3 * width, width), f"{layer}.attn.in_proj_bias": (3 * width,)}
            made |= {f"{layer}.attn.out_proj.weight": (width, width), f"{layer}.attn.out_proj.bias": (width,)}
            made |= {f"{layer}.mlp.c_fc.weight": (wide, width), f"{layer}.mlp.c_fc.bias": (wide,)}
            made |= {f"{layer}.mlp.c_proj.weight": (width, wide), f"{layer}.mlp.c_proj.bias": (width,)}
    return made


def openclip(seed: int = 0) -> State:
    source = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(shape, generator=source) for name, shape in shapes().items()}


def normed(x: Tensor, name: str, state: State) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def dense(x: Tensor, name: str, state: State) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def layers(x: Tensor, start: str, state: State, causal: bool) -> Tensor:
    length, width = x.shape[1:]
    mask = torch.full((length, length), -torch.inf).triu(1) if causal else torch.zeros(length, length)
    for i in range(2):
        layer = f"{start}transformer.resblocks.{i}"
        y = normed(x, f"{layer}.ln_1", state)
        mixed = y @ state[f"{layer}.attn.in_proj_weight"].T + state[f"{layer}.attn.in_proj_bias"]
        q, k, v = (part.reshape(len(x), length, 2, width // 2).transpose(1, 2) for part in mixed.chunk(3, dim=-1))
        attention = (q @ k.transpose(-1, -2) / (width // 2) ** 0.5 + mask).softmax(dim=-1) @ v
        x = x + dense(attention.transpose(1, 2).reshape(x.shape), f"{layer}.attn.out_proj", state)
        y = F.gelu(dense(normed(x, f"{layer}.ln_2", state), f"{layer}.mlp.c_fc", state))
        x = x + dense(y, f"{layer}.mlp.c_proj", state)
    return x


def see(images: list[Image.Image], state: State) -> Tensor:
    patches = F.conv2d(clip_pixels(images, SIZE, whole=True), state["visual.conv1.weight"], stride=PATCH)
    first = state["visual.class_embedding"].expand(len(images), 1, VISION)
    x = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1) + state["visual.positional_embedding"]
    x = layers(normed(x, "visual.ln_pre", state), "visual.", state, causal=False)
    return F.normalize(normed(x[:, 0], "visual.ln_post", state) @ state["visual.proj"], dim=-1)


def understand(prompt: str, words: Any, state: State) -> Tensor:
    tokens = torch.tensor(words([prompt])["input_ids"])
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"][: tokens.shape[1]]
    x = normed(layers(x, "", state, causal=True), "ln_final", state)
    return F.normalize(x[:, -1] @ state["text_projection"], dim=-1)  # the last word is the end of the text


def by_hand(images: list[Image.Image], prompts: list[str], words: Any, state: State) -> np.ndarray:
    texts = torch.cat([understand(prompt, words, state) for prompt in prompts])
    return (see(images, state) * texts).sum(dim=-1).numpy()


def test_hps_is_openclips_network(tmp_path: Path, base: str, words: Any) -> None:
    state, images = openclip(), [*drawn(2), *drawn(2, 70, 30, seed=1)]
    wanted = by_hand(images, PROMPTS, words, state)
    assert np.ptp(wanted) > 0.05
    torch.save({"epoch": 3, "state_dict": state, "name": "hps"}, tmp_path / "hps.pt")
    assert hpsv2(images, str(tmp_path / "hps.pt"), base, PROMPTS) == pytest.approx(wanted, abs=1e-5)
    torch.save({**state, "attn_mask": torch.zeros(40, 40)}, tmp_path / "plain.pt")
    spec = f"hpsv2?weights={tmp_path / 'plain.pt'}&model={base}"
    assert resolve_reward(spec)(images, PROMPTS).numpy() == pytest.approx(wanted, abs=1e-5)
    torch.save(from_openclip(state), tmp_path / "renamed.pt")
    assert hpsv2(images, str(tmp_path / "renamed.pt"), base, PROMPTS) == pytest.approx(wanted, abs=1e-5)
    torch.save(openclip(1), tmp_path / "plain.pt")  # written again
    assert hpsv2(images, str(tmp_path / "plain.pt"), base, PROMPTS) != pytest.approx(wanted, abs=1e-2)
    with pytest.raises(RewardError, match="there are none"):
        hpsv2(images, str(tmp_path / "plain.pt"), base)


def without(name: str) -> State:
    return {key: value for key, value in openclip().items() if key != name}


WRONG: dict[str, tuple[State, str]] = {
    "a missing layer": (without("visual.ln_pre.bias"), "has no 'vision_model.pre_layrnorm.bias', 1 such"),
    "one too many": (openclip() | {"visual.extra": torch.zeros(1)}, "has an unknown 'visual.extra', 1 such"),
    "another size": (openclip() | {"visual.class_embedding": torch.zeros(21)}, "another shape of 'vision_model.emb"),
    "no clip": ({"weight": torch.zeros(1)}, "HPS v2: the file has no"),
}


@pytest.mark.parametrize(("state", "said"), WRONG.values(), ids=WRONG)
def test_another_file_is_refused(tmp_path: Path, base: str, state: State, said: str) -> None:
    torch.save(state, tmp_path / "hps.pt")
    with pytest.raises(GuidedError) as caught:
        resolve_reward(f"hpsv2?weights={tmp_path / 'hps.pt'}&model={base}")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_or_base_is_refused(tmp_path: Path, base: str) -> None:
    with pytest.raises(GuidedError, match="HPS v2: there is no file"):
        resolve_reward(f"hpsv2?weights={tmp_path / 'none.pt'}&model={base}")
    with pytest.raises(GuidedError, match="cannot load the base of HPS v2"):
        resolve_reward(f"hpsv2?weights=hps.pt&model={tmp_path / 'none'}")
    transformers.BertConfig(hidden_size=8).save_pretrained(tmp_path / "bert")
    with pytest.raises(GuidedError, match="is of type 'bert'; a CLIP of transformers"):
        resolve_reward(f"hpsv2?weights=hps.pt&model={tmp_path / 'bert'}")


def test_networks_are_loaded_once(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(openclip(), tmp_path / "hps.pt")
    first = hpsv2(drawn(1), str(tmp_path / "hps.pt"), base, ["a"])
    monkeypatch.setattr(preference, "read_state", None)
    monkeypatch.setattr(clip, "pretrained", None)
    assert hpsv2(drawn(1), str(tmp_path / "hps.pt"), base, ["a"]).tolist() == first.tolist()


@pytest.mark.parametrize("name", FOREIGN)
def test_settings_of_torch_change_nothing(tmp_path: Path, base: str, name: str) -> None:
    torch.save(tinyclip.network("gelu").state_dict(), tmp_path / "renamed.pt")
    wanted = hpsv2(drawn(4), str(tmp_path / "renamed.pt"), base, PROMPTS).tolist()
    preference._hps.cache_clear()
    with foreign(name):
        assert hpsv2(drawn(4), str(tmp_path / "renamed.pt"), base, PROMPTS).tolist() == wanted
