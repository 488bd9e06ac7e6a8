"""ImageReward: what people prefer for a prompt, by BLIP and a head.

BLIP's vision network reads the image, its text network reads the prompt and attends to the image in each layer, and
linear layers turn the state f of the first word into the score:

    (head(f) - 0.1672) / 1.0333        about 0 on average, with a standard deviation of 1

The authors' file is read into the BLIP of transformers, under other names. Its sizes are found in the shapes; a head of
an attention has 64 features.

References:
    | ImageReward: learning and evaluating human preferences for text-to-image generation
    | (Xu, Liu, Wu, Tong, Li, Ding, Tang and Dong, NeurIPS, 2023, https://arxiv.org/abs/2304.05977)

    | BLIP: bootstrapping language-image pre-training for unified vision-language understanding and generation
    | (Li, Li, Xiong and Hoi, ICML, 2022, https://arxiv.org/abs/2201.12086)
"""

__all__ = ["Blip", "image_reward"]

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from guided.errors import GuidedError
from guided.rewards.images.pixels import Images, Prompts, Scores, frames, mean_over_frames, prompts_of
from guided.rewards.support.hub import (
    ROWS,
    State,
    chain,
    check_precision,
    clip_pixels,
    load_into,
    placed,
    pretrained,
    read_state,
    running,
    version,
)
from guided.rewards.support.parts import Parts
from guided.rewards.support.settings import Precision, device_of, own_settings
from guided.scoring.registry import register_reward

WORDS = "google-bert/bert-base-uncased"
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the head's output on the authors' data
LONGEST = 35  # words of a prompt
HEAD = 64
_VISION, _TEXT, _MLP = "blip.visual_encoder.", "blip.text_encoder.", "mlp."
_LAYERS = tuple(f"layers.{i}." for i in (0, 2, 4, 6, 7))  # dropout is in between, and nothing else
_NAMES = [
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.attn\.", r"encoder.layers.\1.self_attn."),
    (r"^blocks\.(\d+)\.norm", r"encoder.layers.\1.layer_norm"),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
]


@dataclass(frozen=True)
class Blip:
    """The networks of ImageReward, which go where the images are and stay there, and the words that it knows.

    Attributes:
        vision: BLIP's vision network.
        text: Its text network.
        head: The linear layers, in float32.
        tokenizer: Of the prompts.
        precision: In which BLIP runs.
        parts: The rows that fit into memory.
    """

    vision: Any
    text: Any
    head: nn.Module
    tokenizer: Any
    precision: str = "float32"
    parts: Parts = field(default_factory=lambda: Parts(ROWS))

    @own_settings
    @torch.inference_mode()
    def __call__(self, images: Any, prompts: Sequence[str]) -> Tensor:
        """Scores of m RGB images, PIL's or uint8 `(m, 3, H, W)`, each for its prompt: `(m,)`, on their device."""
        place = device_of(images)
        for network in (self.vision, self.text, self.head):
            placed(network, place)
        if not len(images):
            return torch.zeros(0, device=place)
        with running(self.precision, place):
            scores = self.parts(lambda rows: self._score(images[rows], prompts[rows], place), len(images))
        return (scores - MEAN) / STD

    def _score(self, images: Any, prompts: Sequence[str], place: torch.device) -> Tensor:
        rows = clip_pixels(images, self.vision.config.image_size).to(place, self.vision.dtype)
        seen = self.vision(pixel_values=rows).last_hidden_state
        options = {"padding": True, "truncation": True, "max_length": LONGEST, "return_tensors": "pt"}
        words = self.tokenizer(list(prompts), **options).to(place)
        states = self.text(words.input_ids, attention_mask=words.attention_mask, encoder_hidden_states=seen)
        return self.head(states.last_hidden_state[:, 0].float())[:, 0]


def _check(weights: str, tokenizer: str = WORDS, precision: Precision = "float32") -> None:
    _blip(tokenizer, precision, *version(weights))


@register_reward("image_reward", takes="pixels", check=_check, workers="none")
def image_reward(
    samples: Images, weights: str, tokenizer: str = WORDS, prompts: Prompts = None, precision: Precision = "float32"
) -> Scores:
    """What people prefer for a prompt by ImageReward, standardised: 0 is the mean of its authors' data.

    Args:
        samples: n samples.
        weights: `ImageReward.pt` of THUDM/ImageReward on the Hugging Face hub.
        tokenizer: BERT's words, a name on the hub or a folder.
        prompts: n prompts; what follows the 35th word (in BERT's sense) is cut.
        precision: BLIP's, as in :mod:`guided.rewards.support.settings`. The head's is float32.

    Raises:
        ImportError: transformers is not installed.
        RewardError: There are no prompts.
        ValueError: There is no such file, tokenizer or precision, or the file is not ImageReward's.
    """
    blip, batch = _blip(tokenizer, precision, *version(weights)), frames(samples, tensors=True)
    return mean_over_frames(batch, blip(batch.images, prompts_of(batch, prompts)))


@lru_cache(maxsize=2)
@own_settings
def _blip(tokenizer: str, precision: str, weights: str, *changed: int) -> Blip:
    check_precision(precision)  # before anything is read
    words = pretrained("AutoTokenizer", tokenizer, "ImageReward's tokenizer")
    state = read_state(weights, "ImageReward")
    vision = {_renamed(name): value for name, value in _under(_VISION, state).items()}
    text = {name: value for name, value in _under(_TEXT, state).items() if not name.endswith("position_ids")}
    head = chain(_under(_MLP, state), _LAYERS, "ImageReward's head")
    try:
        networks = _vision(vision, precision), _text(text, precision)
    except (KeyError, IndexError) as error:
        raise GuidedError(f"ImageReward: {weights!r} is not its file, there is no {error}") from None
    known = networks[1].config.vocab_size
    if not 0 <= known - len(words) <= 2:  # BLIP adds two that no prompt has
        raise GuidedError(f"the words of {tokenizer!r} are {len(words)}, ImageReward's are {known - 2}")
    return Blip(*networks, head, words, precision)


def _vision(state: State, precision: str) -> Any:
    transformers, patches = import_module("transformers"), state["embeddings.patch_embedding.weight"]
    width, _, patch, _ = patches.shape
    config = transformers.BlipVisionConfig(
        hidden_size=width,
        intermediate_size=len(state["encoder.layers.0.mlp.fc1.weight"]),
        num_hidden_layers=_depth(state, r"encoder\.layers\.(\d+)\."),
        num_attention_heads=width // HEAD,
        image_size=patch * isqrt(state["embeddings.position_embedding"].shape[1] - 1),
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    return load_into(transformers.BlipVisionModel(config), state, "ImageReward's vision network", precision)


def _text(state: State, precision: str) -> Any:
    transformers, words = import_module("transformers"), state["embeddings.word_embeddings.weight"]
    config = transformers.BlipTextConfig(
        vocab_size=len(words),
        hidden_size=words.shape[1],
        encoder_hidden_size=state["encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=len(state["encoder.layer.0.intermediate.dense.weight"]),
        num_hidden_layers=_depth(state, r"encoder\.layer\.(\d+)\."),
        num_attention_heads=words.shape[1] // HEAD,
        max_position_embeddings=len(state["embeddings.position_embeddings.weight"]),
    )
    network = transformers.BlipTextModel(config, add_pooling_layer=False)
    return load_into(network, state, "ImageReward's text network", precision)


def _depth(state: State, layer: str) -> int:
    return 1 + max(int(found[1]) for found in map(re.compile(layer).match, state) if found)


def _under(prefix: str, state: State) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _renamed(name: str) -> str:
    return next((re.sub(old, new, name) for old, new in _NAMES if re.search(old, name)), name)
