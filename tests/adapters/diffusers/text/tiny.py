"""A tiny pipeline of text: a tokenizer of words with a chat template, and a network with random weights."""

__all__ = ["END", "MASK", "PROMPTS", "WORDS", "network", "pipeline", "tokenizer"]

from typing import Any

from diffusers import BlockRefinementScheduler, LLaDA2Pipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from tests.adapters.diffusers.pipelines.parts import scatter

SPECIAL = ("<pad>", "<mask>", "<end>", "<unk>", "<user>", "<model>")
WORDS = ("a", "the", "red", "blue", "cat", "dog", "sees", "likes", "small", "big", "house", ".")
MASK, END = 1, 2
PROMPTS = ("the cat", "a big dog sees the house", "")  # with the template 4, 8 and 2 tokens
TEMPLATE = (
    "{% for message in messages %}<user> {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)


def tokenizer() -> Any:
    """Words between spaces."""
    table = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*SPECIAL, *WORDS))}, unk_token="<unk>"))
    table.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "mask_token", "eos_token", "unk_token"), SPECIAL, strict=False))
    found = PreTrainedTokenizerFast(tokenizer_object=table, additional_special_tokens=list(SPECIAL[4:]), **names)
    found.chat_template = TEMPLATE
    return found


def network(seed: int = 0, sharp: float = 1.0) -> Any:
    """A network that hardly ever predicts the mask, as a trained one; its words depend on all others.

    Args:
        seed: That of the weights.
        sharp: How sure it is.
    """
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    net = scatter(BertForMaskedLM(config), seed)
    net.cls.predictions.decoder.weight.mul_(sharp)
    for bias in (net.cls.predictions.bias, net.cls.predictions.decoder.bias):
        bias.zero_()
        bias[MASK] = -1e4
    return net


def pipeline(seed: int = 0, sharp: float = 1.0, **scheduler: Any) -> Any:
    """LLaDA 2's pipeline on such a network."""
    found = LLaDA2Pipeline(network(seed, sharp), BlockRefinementScheduler(**scheduler), tokenizer())
    found.set_progress_bar_config(disable=True)
    return found
