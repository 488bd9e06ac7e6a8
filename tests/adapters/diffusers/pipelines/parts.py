"""Small seeded networks and tokenizers, made here, so that no test downloads anything."""

__all__ = ["WORDS", "autoencoder", "clip", "clip_tokenizer", "scatter", "t5", "t5_tokenizer", "video_autoencoder"]

import re
import string
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLCogVideoX
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

#: Words that both tokenizers know as a whole; others are spelled.
WORDS = ("red", "blue", "pink", "apple", "cat", "dog")
ATTENTION = re.compile("(to_[qkv]|to_out.0|add_[qkv]_proj|[qkv]_proj|SelfAttention.[qkvo]).weight")


def scatter(net: nn.Module, seed: int) -> Any:
    """Redraws every weight so that each layer keeps the variance, and none starts at zero as many do by default.

    Attention is made sharp, or else a word would drown in the padding beside it; more would make steps chaotic.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.1 * noise)
            elif weight.ndim <= 1:
                weight.copy_(1 + 0.1 * noise)
            elif "embedding.weight" in name or name.endswith(("shared.weight", "embedding_table.weight", "table")):
                weight.copy_(noise)
            else:
                gain = 1.5 if ATTENTION.search(name) else 1
                weight.copy_(noise * gain * weight[0].numel() ** -0.5)
    return net.eval().requires_grad_(False)


def clip_tokenizer(length: int = 16) -> CLIPTokenizer:
    """The words, letters and digits, in CLIP's order of special tokens."""
    symbols = [c + end for end in ("", "</w>") for c in string.ascii_lowercase + string.digits + ",.-"]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = word[0]
        for i, c in enumerate(word[1:], 1):
            right = c + "</w>" * (i == len(word) - 1)
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
    tokens = ["<|startoftext|>", "<|endoftext|>", *symbols, *dict.fromkeys(a + b for a, b in merges)]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, model_max_length=length)


def t5_tokenizer() -> T5Tokenizer:
    """The words and letters, in T5's order of special tokens."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [("▁" + word, -1.0) for word in WORDS]
    vocab += [(c, -3.0) for c in string.ascii_lowercase + string.digits + ",.-"]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)


def clip(seed: int, width: int = 16, projection: int | None = None, layers: int = 2, length: int = 16) -> Any:
    """A CLIP text encoder; with `projection`, one that projects its pooled output."""
    tokenizer = clip_tokenizer(length)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=projection or width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return scatter((CLIPTextModelWithProjection if projection else CLIPTextModel)(config), seed)


def t5(seed: int, width: int = 32) -> Any:
    config = T5Config(vocab_size=len(t5_tokenizer()), d_model=width, d_kv=8, d_ff=width, num_layers=2, num_heads=2)
    net = scatter(T5EncoderModel(config), seed)
    return net


def autoencoder(seed: int, channels: int = 4, **config: Any) -> Any:
    """Images of twice the height and width of latents with `channels` channels."""
    net = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=channels,
        sample_size=16,
        **config,
    )
    return scatter(net, seed)


def video_autoencoder(seed: int) -> Any:
    """Four times the height, width and (but for the first frame) frames of latents with 4 channels."""
    net = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 3,
        up_block_types=("CogVideoXUpBlock3D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        temporal_compression_ratio=4,
        sample_height=16,
        sample_width=16,
    )
    return scatter(net, seed)
