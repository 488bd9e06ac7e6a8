"""Rewards by CLIP: how an image fits its prompt, and how beautiful it is.

CLIP turns an image into u and a text into w, both of length 1.

    clip_score    100 u . w
    aesthetic     a linear function of u, or linear layers one after the other, fitted to ratings from 1 to 10

References:
    | Learning transferable visual models from natural language supervision
    | (Radford et al., ICML, 2021, https://arxiv.org/abs/2103.00020)

    | CLIPScore: a reference-free evaluation metric for image captioning
    | (Hessel, Holtzman, Forbes, Le Bras and Choi, EMNLP, 2021, https://arxiv.org/abs/2104.08718)

    | LAION-5B: an open large-scale dataset for training next generation image-text models
    | (Schuhmann et al., NeurIPS, 2022, https://arxiv.org/abs/2210.08402)
    | the predictors: https://github.com/LAION-AI/aesthetic-predictor and
      https://github.com/christophschuhmann/improved-aesthetic-predictor
"""

__all__ = ["MODEL", "Clip", "aesthetic", "clip_score", "load_clip", "load_tokenizer"]

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from guided.errors import GuidedError
from guided.rewards.images.pixels import Images, Prompts, Scores, frames, mean_over_frames, prompts_of
from guided.rewards.support.hub import ROWS, chain, clip_pixels, device, pretrained, read_state, version
from guided.rewards.support.settings import own_settings
from guided.scoring.registry import register_reward

MODEL = "openai/clip-vit-large-patch14"
_MLP = tuple(f"layers.{i}." for i in (0, 2, 4, 6, 7))  # dropout is in between, and nothing else


@dataclass(frozen=True)
class Clip:
    """A CLIP of transformers, on its device.

    Attributes:
        network: A `CLIPModel`.
        name: Where it is from.
    """

    network: Any
    name: str

    @own_settings
    @torch.inference_mode()
    def images(self, images: list[Image.Image], whole: bool = False) -> Tensor:
        """From m RGB images to u, `(m, D)`, on the CPU. `whole` as in :func:`~hub.clip_pixels`."""
        network, parts = self.network, [images[i : i + ROWS] for i in range(0, len(images), ROWS)]
        found = [torch.zeros(0, network.config.projection_dim)]
        for part in parts:
            rows = clip_pixels(part, network.config.vision_config.image_size, whole).to(device())
            found.append(network.visual_projection(network.vision_model(pixel_values=rows).pooler_output).cpu())
        return nn.functional.normalize(torch.cat(found), dim=-1)

    @own_settings
    @torch.inference_mode()
    def texts(self, texts: list[str], tokenizer: Any) -> Tensor:
        """From m texts to w, `(m, D)`, on the CPU. Equal texts are read once; the end of a long one is cut."""
        network, different = self.network, list(dict.fromkeys(texts))
        found = [torch.zeros(0, network.config.projection_dim)]
        longest = network.config.text_config.max_position_embeddings
        for i in range(0, len(different), ROWS):
            part, options = different[i : i + ROWS], {"padding": True, "truncation": True, "max_length": longest}
            words = tokenizer(part, return_tensors="pt", **options).to(device())
            states = network.text_model(input_ids=words.input_ids, attention_mask=words.attention_mask)
            found.append(network.text_projection(states.pooler_output).cpu())
        place = {text: i for i, text in enumerate(different)}
        return nn.functional.normalize(torch.cat(found), dim=-1)[[place[text] for text in texts]]


def _check_clip(model: str = MODEL) -> None:
    load_tokenizer(model, load_clip(model).network.config)


@register_reward("clip_score", modality="images", check=_check_clip)
def clip_score(samples: Images, model: str = MODEL, prompts: Prompts = None) -> Scores:
    """How an image fits its prompt by CLIP: 100 times the cosine of the two.

    Args:
        samples: n samples.
        model: A CLIP of transformers, a name on the Hugging Face hub or a folder.
        prompts: n prompts.

    Raises:
        ImportError: transformers is not installed.
        RewardError: There are no prompts.
        ValueError: There is no such model.
    """
    batch, clip = frames(samples), load_clip(model)
    texts = clip.texts(prompts_of(batch, prompts), load_tokenizer(model, clip.network.config))
    return mean_over_frames(batch, 100 * (clip.images(batch.images) * texts).sum(dim=-1))


def _check_aesthetic(weights: str, model: str = MODEL) -> None:
    _aesthetic(weights, model)


@register_reward("aesthetic", modality="images", check=_check_aesthetic)
@own_settings
def aesthetic(samples: Images, weights: str, model: str = MODEL) -> Scores:
    """Rating of an image's beauty by LAION's predictor, fitted to ratings from 1 to 10.

    Args:
        samples: n samples.
        weights: The predictor's file: `sa_0_4_vit_l_14_linear.pth` or another of that kind, or
            `sac+logos+ava1-l14-linearMSE.pth`, whose layers are 768-1024-128-64-16-1.
        model: The CLIP that it was fitted to, a name on the Hugging Face hub or a folder.

    Raises:
        ImportError: transformers is not installed.
        ValueError: There is no such model or file, or one does not fit the other.
    """
    clip, predictor = _aesthetic(weights, model)
    batch = frames(samples)
    with torch.inference_mode():
        return mean_over_frames(batch, predictor(clip.images(batch.images).to(device()))[:, 0].cpu())


@lru_cache(maxsize=4)
@own_settings
def load_clip(name: str) -> Clip:
    """The CLIP of a name on the Hugging Face hub or of a folder, in float32.

    Raises:
        GuidedError: There is none, it is another network, or weights are missing.
    """
    config = pretrained("AutoConfig", name, "the CLIP")
    if config.model_type != "clip":
        raise GuidedError(f"{name!r} is of type {config.model_type!r}; a CLIP of transformers, 'clip', is accepted")
    options = {"dtype": torch.float32, "output_loading_info": True}
    network, info = pretrained("CLIPModel", name, "the CLIP", **options)
    if info["missing_keys"]:
        raise GuidedError(f"the CLIP {name!r} has no weights for {min(info['missing_keys'])!r}")
    return Clip(network.eval().requires_grad_(False).to(device()), name)


@lru_cache(maxsize=8)
def _tokenizer(name: str) -> Any:
    return pretrained("AutoTokenizer", name, "the words of CLIP")


def load_tokenizer(name: str, config: Any) -> Any:
    """The tokenizer of a name on the Hugging Face hub or of a folder, for a CLIP with this configuration.

    Raises:
        GuidedError: There is none, or it has other words than the network.
    """
    tokenizer = _tokenizer(name)
    if len(tokenizer) != config.text_config.vocab_size:
        raise GuidedError(f"the words of {name!r} are {len(tokenizer)}, CLIP's are {config.text_config.vocab_size}")
    return tokenizer


def _aesthetic(weights: str, model: str) -> tuple[Clip, nn.Module]:
    clip, predictor = load_clip(model), _predictor(*version(weights))
    wanted, given = predictor[0].in_features, clip.network.config.projection_dim
    if wanted != given:
        raise GuidedError(f"the aesthetic predictor was fitted to a CLIP of {wanted} features, {model!r} has {given}")
    return clip, predictor


@lru_cache(maxsize=4)
@own_settings
def _predictor(path: str, *changed: int) -> Any:
    what = "the aesthetic predictor"
    state = read_state(path, what)
    return chain(state, ("",) if "weight" in state else _MLP, what)
