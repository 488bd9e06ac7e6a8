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

__all__ = ["MODEL", "Clip", "aesthetic", "clip_score", "cosines", "load_clip", "load_tokenizer"]

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from guided.errors import GuidedError
from guided.rewards.images.pixels import Frames, Images, Prompts, Scores, frames, mean_over_frames, prompts_of
from guided.rewards.support.hub import (
    ROWS,
    chain,
    check_precision,
    clip_pixels,
    placed,
    pretrained,
    read_state,
    running,
    version,
)
from guided.rewards.support.parts import Parts
from guided.rewards.support.settings import Precision, device_of, own_settings
from guided.scoring.registry import register_reward

KNOWN = 10_000  # prompts that are remembered
MODEL = "openai/clip-vit-large-patch14"
_MLP = tuple(f"layers.{i}." for i in (0, 2, 4, 6, 7))  # dropout is in between, and nothing else


@dataclass(frozen=True)
class Clip:
    """A CLIP of transformers.

    Attributes:
        network: A `CLIPModel`, in its precision; it goes where the images are, and stays there.
        name: Where it is from.
        scale: By what its authors multiply cosines.
        precision: In which it runs.
        parts: The rows that fit into memory.
        known: The w of prompts that were read before, by tokenizer and prompt.
    """

    network: Any
    name: str
    scale: float
    precision: str = "float32"
    parts: Parts = field(default_factory=lambda: Parts(ROWS))
    known: dict[tuple[Any, str], Tensor] = field(default_factory=dict, repr=False)

    @own_settings
    @torch.inference_mode()
    def images(self, images: Any, whole: bool = False) -> Tensor:
        """From m RGB images, or a tensor of them, to u, `(m, D)` in float32, on their device.

        Args:
            images: m PIL images, or uint8 `(m, 3, H, W)`.
            whole: As in :func:`~hub.clip_pixels`.
        """
        place = device_of(images)
        network = placed(self.network, place)
        size = network.config.vision_config.image_size

        def read(rows: slice) -> Tensor:
            pixels = clip_pixels(images[rows], size, whole).to(place, network.dtype)
            return network.visual_projection(network.vision_model(pixel_values=pixels).pooler_output).float()

        with running(self.precision, place):
            found = self.parts(read, len(images)) if len(images) else torch.zeros(0, self.width, device=place)
        return nn.functional.normalize(found, dim=-1)

    @own_settings
    @torch.inference_mode()
    def texts(self, texts: Sequence[str], tokenizer: Any) -> Tensor:
        """From m texts to w, `(m, D)` in float32, on the network's device; the end of a long text is cut.

        A text is read once, and alone: its w does not depend on what else is read.
        """
        place = next(self.network.parameters()).device
        if len(self.known) > KNOWN:
            self.known.clear()
        found = []
        for text in texts:
            w = self.known.get((tokenizer, text))
            self.known[tokenizer, text] = w = self._text(text, tokenizer) if w is None else w.to(place)
            found.append(w)
        return torch.stack(found) if found else torch.zeros(0, self.width, device=place)

    def _text(self, text: str, tokenizer: Any) -> Tensor:
        network, longest = self.network, self.network.config.text_config.max_position_embeddings
        words = tokenizer([text], return_tensors="pt", truncation=True, max_length=longest).to(network.device)
        with running(self.precision, network.device):
            states = network.text_model(input_ids=words.input_ids, attention_mask=words.attention_mask)
            return nn.functional.normalize(network.text_projection(states.pooler_output)[0].float(), dim=-1)

    @property
    def width(self) -> int:
        """The number D of features."""
        return int(self.network.config.projection_dim)


def cosines(batch: Frames, prompts: Prompts, clip: Clip, tokenizer: Any, whole: bool = False) -> Tensor:
    """The cosines u . w of m images and their samples' prompts, with shape `(m,)`.

    Raises:
        RewardError: There are no prompts.
    """
    texts = prompts_of(batch, prompts)
    u = clip.images(batch.images, whole)
    return (u * clip.texts(texts, tokenizer)).sum(dim=-1)


def _check_clip(model: str = MODEL, precision: Precision = "float32") -> None:
    load_tokenizer(model, load_clip(model, precision).network.config)


@register_reward("clip_score", takes="pixels", check=_check_clip, workers="none")
def clip_score(
    samples: Images, model: str = MODEL, prompts: Prompts = None, precision: Precision = "float32"
) -> Scores:
    """How an image fits its prompt by CLIP: 100 times the cosine of the two.

    Args:
        samples: n samples.
        model: A CLIP of transformers, a name on the Hugging Face hub or a folder.
        prompts: n prompts.
        precision: The network's, as in :mod:`guided.rewards.support.settings`.

    Raises:
        ImportError: transformers is not installed.
        RewardError: There are no prompts.
        ValueError: There is no such model or precision.
    """
    batch, clip = frames(samples, tensors=True), load_clip(model, precision)
    tokenizer = load_tokenizer(model, clip.network.config)
    return mean_over_frames(batch, 100 * cosines(batch, prompts, clip, tokenizer))


def _check_aesthetic(weights: str, model: str = MODEL, precision: Precision = "float32") -> None:
    _aesthetic(weights, model, precision)


@register_reward("aesthetic", takes="pixels", check=_check_aesthetic, workers="none")
@own_settings
def aesthetic(samples: Images, weights: str, model: str = MODEL, precision: Precision = "float32") -> Scores:
    """Rating of an image's beauty by LAION's predictor, fitted to ratings from 1 to 10.

    Args:
        samples: n samples.
        weights: The predictor's file: `sa_0_4_vit_l_14_linear.pth` or another of that kind, or
            `sac+logos+ava1-l14-linearMSE.pth`, whose layers are 768-1024-128-64-16-1.
        model: The CLIP that it was fitted to, a name on the Hugging Face hub or a folder.
        precision: CLIP's, as in :mod:`guided.rewards.support.settings`. The predictor's is float32.

    Raises:
        ImportError: transformers is not installed.
        ValueError: There is no such model, file or precision, or one does not fit the other.
    """
    clip, predictor = _aesthetic(weights, model, precision)
    batch = frames(samples, tensors=True)
    with torch.inference_mode():
        u = clip.images(batch.images)
        return mean_over_frames(batch, placed(predictor, u.device)(u)[:, 0])


@lru_cache(maxsize=4)
@own_settings
def load_clip(name: str, precision: str) -> Clip:
    """The CLIP of a name on the Hugging Face hub or of a folder, in a precision.

    Raises:
        GuidedError: There is none, it is another network, weights are missing, or there is no such precision.
    """
    wanted = check_precision(precision)
    config = pretrained("AutoConfig", name, "the CLIP")
    if config.model_type != "clip":
        raise GuidedError(f"{name!r} is of type {config.model_type!r}; a CLIP of transformers, 'clip', is accepted")
    options = {"dtype": torch.float32, "output_loading_info": True}
    network, info = pretrained("CLIPModel", name, "the CLIP", **options)
    if info["missing_keys"]:
        raise GuidedError(f"the CLIP {name!r} has no weights for {min(info['missing_keys'])!r}")
    scale = float(network.logit_scale.detach().exp())
    return Clip(network.eval().requires_grad_(False).to(device_of(None), wanted), name, scale, precision)


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


def _aesthetic(weights: str, model: str, precision: str) -> tuple[Clip, nn.Module]:
    clip, predictor = load_clip(model, precision), _predictor(*version(weights))
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
