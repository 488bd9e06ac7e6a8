"""A CLIP of transformers with drawn weights, and pictures and words for it."""

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

SIZE = 32
LETTERS = [letter + end for end in ("", "</w>") for letter in ascii_lowercase]
WORDS = {word: i for i, word in enumerate([*LETTERS, "<|startoftext|>", "<|endoftext|>"])}
PROMPTS = ["a cat", "two dogs in the park", "a cat", ""]


def config(act: str = "quick_gelu", words: int = len(WORDS)) -> transformers.CLIPConfig:
    shared = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": act}
    text = {"hidden_size": 16, "intermediate_size": 24, "vocab_size": words, "max_position_embeddings": 40, **shared}
    text |= {"bos_token_id": WORDS["<|startoftext|>"], "eos_token_id": WORDS["<|endoftext|>"]}
    vision = {"hidden_size": 20, "intermediate_size": 28, "image_size": SIZE, "patch_size": 8, **shared}
    return transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)


def network(act: str = "quick_gelu", seed: int = 0, words: int = len(WORDS)) -> Any:
    torch.manual_seed(seed)
    made = transformers.CLIPModel(config(act, words)).eval()
    for parameter in made.parameters():  # its own are so small that all pictures look alike
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.constant_(made.logit_scale, 3.0)
    return made


def save_words(folder: Path) -> Any:
    tokenizer = transformers.CLIPTokenizer(vocab=WORDS, merges=[])
    tokenizer.save_pretrained(folder)
    return tokenizer


def drawn(n: int, width: int = 40, height: int = 36, seed: int = 0) -> list[Image.Image]:
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    return [Image.fromarray(x).resize((width, height), Image.Resampling.BICUBIC) for x in coarse]


def prepared(images: list[Image.Image], size: int = SIZE) -> torch.Tensor:
    """By transformers' own processor, the one that needs Pillow only."""
    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    processor = kind(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in images])
