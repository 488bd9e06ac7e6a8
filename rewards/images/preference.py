"""Rewards by networks that were trained on what people prefer: PickScore and HPS v2.

Both are a CLIP ViT-H/14 that was trained on, with u of the image and w of the prompt, of length 1:

    pickscore    s u . w, with the network's own scale s
    hpsv2        u . w

HPS v2 is published as OpenCLIP's file of weights, and OpenCLIP is not needed: its layers have other names here, a
projection is transposed, and the queries, keys and values of an attention are three layers.

References:
    | Pick-a-Pic: an open dataset of user preferences for text-to-image generation
    | (Kirstain, Polyak, Singer, Matiana, Penna and Levy, NeurIPS, 2023, https://arxiv.org/abs/2305.01569)

    | Human preference score v2: a solid benchmark for evaluating human preferences of text-to-image synthesis
    | (Wu, Hao, Sun, Chen, Zhu, Zhao and Li, 2023, https://arxiv.org/abs/2306.09341)
"""

__all__ = ["BASE", "from_openclip", "hpsv2", "pickscore"]

import re
from functools import lru_cache
from importlib import import_module
from typing import Any

from torch import Tensor

from guided.errors import GuidedError
from guided.rewards.images.clip import Clip, cosines, load_clip, load_tokenizer
from guided.rewards.images.pixels import Images, Prompts, Scores, frames, mean_over_frames
from guided.rewards.support.hub import State, check_precision, load_into, pretrained, read_state, version
from guided.rewards.support.settings import Precision, own_settings
from guided.scoring.registry import register_reward

BASE = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
PICKSCORE = "yuvalkirstain/PickScore_v1"

# OpenCLIP's names and those of transformers, the first that fits; what is left of them is the same in both
_NAMES = [
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
]
_LAYER = [(".ln_1.", ".layer_norm1."), (".ln_2.", ".layer_norm2."), (".mlp.c_fc.", ".mlp.fc1.")]
_LAYER += [(".mlp.c_proj.", ".mlp.fc2."), (".attn.", ".self_attn.")]


def _check_pickscore(model: str = PICKSCORE, precision: Precision = "float32") -> None:
    _pickscore(model, precision)


@register_reward("pickscore", takes="pixels", check=_check_pickscore, workers="none")
def pickscore(
    samples: Images, model: str = PICKSCORE, prompts: Prompts = None, precision: Precision = "float32"
) -> Scores:
    """What people prefer for a prompt by PickScore: a scaled cosine.

    Args:
        samples: n samples.
        model: PickScore, a name on the Hugging Face hub or a folder. Without a tokenizer of its own, that of its base,
            `laion/CLIP-ViT-H-14-laion2B-s32B-b79K`, is taken.
        prompts: n prompts.
        precision: The network's, as in :mod:`guided.rewards.support.settings`.

    Raises:
        ImportError: transformers is not installed.
        RewardError: There are no prompts.
        ValueError: There is no such model or precision.
    """
    (clip, tokenizer), batch = _pickscore(model, precision), frames(samples, tensors=True)
    return mean_over_frames(batch, clip.scale * cosines(batch, prompts, clip, tokenizer))


def _check_hps(weights: str, model: str = BASE, precision: Precision = "float32") -> None:
    _hps(model, precision, *version(weights))


@register_reward("hpsv2", takes="pixels", check=_check_hps, workers="none")
def hpsv2(
    samples: Images, weights: str, model: str = BASE, prompts: Prompts = None, precision: Precision = "float32"
) -> Scores:
    """What people prefer for a prompt by HPS v2: a cosine.

    As its authors do, an image that is not square is resized whole, with black beside it.

    Args:
        samples: n samples.
        weights: `HPS_v2_compressed.pt` or `HPS_v2.1_compressed.pt` of xswu/HPSv2 on the hub; or the same network with
            the names of transformers.
        model: What has the network's configuration and tokenizer, a name on the Hugging Face hub or a folder.
        prompts: n prompts.
        precision: The network's, as in :mod:`guided.rewards.support.settings`.

    Raises:
        ImportError: transformers is not installed.
        RewardError: There are no prompts.
        ValueError: There is no such model, file or precision, or one does not fit the other.
    """
    clip, batch = _hps(model, precision, *version(weights)), frames(samples, tensors=True)
    tokenizer = load_tokenizer(model, clip.network.config)
    return mean_over_frames(batch, cosines(batch, prompts, clip, tokenizer, whole=True))


def from_openclip(state: State) -> State:
    """Weights of a CLIP of OpenCLIP -> of a `CLIPModel` of transformers. Names that neither knows stay as they are."""
    renamed: State = {}
    for name, value in state.items():
        if name == "attn_mask":  # a constant
            continue
        new = next((re.sub(old, new, name) for old, new in _NAMES if re.search(old, name)), name)
        for old_part, new_part in _LAYER:
            new = new.replace(old_part, new_part)
        if ".self_attn.in_proj_" in new:
            parts = zip("qkv", value.chunk(3), strict=True)
            renamed |= {new.replace("in_proj_", f"{letter}_proj."): part for letter, part in parts}
        else:
            renamed[new] = _transposed(value) if name in ("visual.proj", "text_projection") else value
    return renamed


def _transposed(value: Tensor) -> Tensor:
    return value.T.contiguous()


def _pickscore(model: str, precision: str) -> tuple[Clip, Any]:
    clip = load_clip(model, precision)
    try:
        return clip, load_tokenizer(model, clip.network.config)
    except GuidedError:
        return clip, load_tokenizer(BASE, clip.network.config)


@lru_cache(maxsize=2)
@own_settings
def _hps(model: str, precision: str, weights: str, *changed: int) -> Clip:
    check_precision(precision)  # before anything is read
    config = pretrained("AutoConfig", model, "the base of HPS v2")
    if config.model_type != "clip":
        raise GuidedError(f"{model!r} is of type {config.model_type!r}; a CLIP of transformers, 'clip', is accepted")
    load_tokenizer(model, config)
    state = read_state(weights, "HPS v2")
    network = import_module("transformers").CLIPModel(config)
    state = from_openclip(state) if "visual.proj" in state else state
    return Clip(load_into(network, state, "HPS v2", precision), weights, 1.0, precision)
