"""MDLM's transformer in the layout of Hugging Face: a folder with `config.json` and `model.safetensors`."""

__all__ = ["load"]

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guided.adapters.mdlm.common import check, check_length, fill, subs
from guided.checkpoints.schemas import Mdlm, MdlmLength, validated
from guided.checkpoints.torch_files import read_torch
from guided.checkpoints.weights import exists, plain_names, read_tensors, sketched, weights_digest
from guided.core.codec import Codec
from guided.core.compiling import check_compile, compiled, micro_batches
from guided.core.denoiser import Network
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.errors import GuidedError
from guided.nets.mdlm_dit import MaskedDiT

FREQUENCIES = "rotary_emb.inv_freq"

#: Our names of the sizes, and theirs.
SIZES = {"tokens": "vocab_size", "width": "hidden_dim", "heads": "n_heads", "depth": "n_blocks", "cond": "cond_dim"}


def load(
    folder: Path,
    config: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    *,
    length: int | None = None,
    compile: str | None = None,
) -> Diffusion:
    """The model in a folder; samples are texts if it has a `tokenizer.json`, and otherwise ids separated by spaces.

    The mask is the last token of the vocabulary, as in the release with GPT-2's tokens.

    Args:
        folder: The folder.
        config: The content of its `config.json`.
        device: Where the network goes.
        dtype: The precision of the network.
        length: The number of tokens; None for the configuration's `model_length`. The weights work with any.
        compile: How the network is compiled: "default", or on a GPU "graph"; None for not at all.

    Raises:
        GuidedError: The configuration lacks an entry, or the weights do not fit it.
    """
    how = check_compile(compile, device)
    entries = validated(Mdlm, config, folder / "config.json")
    size = {name: getattr(entries, key) for name, key in SIZES.items()}
    length = _length(config, folder) if length is None else length
    length = check_length(length, size["width"], size["tokens"], device)
    path, weights = _weights(folder)
    sketch = sketched(lambda: MaskedDiT(**size), folder / "config.json")
    missing = {FREQUENCIES: sketch.rotary_emb.inv_freq} if FREQUENCIES not in weights else {}
    check(sketch, {**weights, **missing}, path)  # before memory is allocated for the network
    net = MaskedDiT(**size)
    weights.setdefault(FREQUENCIES, net.rotary_emb.inv_freq)  # not a parameter: a file may leave it out
    fill(net, weights, path, device, dtype)
    run = compiled(net, how)
    timed = config.get("time_conditioning") is True
    around = partial(subs, dtype=dtype, device=device, timed=timed)
    text = Text(folder / "tokenizer.json", size["tokens"] - 1, length)
    return Diffusion(
        around(run),
        Masked(length, size["tokens"] - 1, steps=128),
        Codec(text.decode, encode=text.encode),
        network=Network(run, around),
        timed=timed,
        identity=weights_digest(path),
        evaluator=micro_batches(net, length, device, how),
    )


def _length(config: Mapping[str, Any], folder: Path) -> int:
    """The number of tokens in the configuration."""
    length: int = validated(
        MdlmLength, {"length": config.get("model_length", config.get("length"))}, folder / "config.json"
    ).length
    return length


def _weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file of the weights, and its tensors without the prefixes of wrappers around the network."""
    path = folder / "model.safetensors"
    if exists(path):
        weights = read_tensors(path)
    elif (path := folder / "pytorch_model.bin").is_file():
        weights = read_torch(path)
    else:
        raise GuidedError(f"{folder} has neither model.safetensors nor pytorch_model.bin")
    if not isinstance(weights, Mapping) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise GuidedError(f"{path} holds no weights")
    names = plain_names(map(str, weights))
    return path, {name.removeprefix("backbone."): weights[key] for name, key in names.items()}


class Text:
    """Rows of tokens as texts.

    Args:
        path: The `tokenizer.json`; if there is none, a text is the tokens' numbers, separated by spaces.
        vocabulary: The number of tokens `V`, without the mask.
        length: The number of tokens of a row, `L`.

    Raises:
        GuidedError: It cannot be read, or its number of tokens is neither `V` nor `V + 1`.
        ImportError: There is one, but the package `tokenizers` is not installed.
    """

    def __init__(self, path: Path, vocabulary: int, length: int) -> None:
        self.vocabulary, self.length = vocabulary, length
        self._tokenizer = _tokenizer(path) if path.is_file() else None
        known = self._tokenizer.get_vocab_size() if self._tokenizer else vocabulary
        if known not in (vocabulary, vocabulary + 1):
            raise GuidedError(f"{path} has {known} tokens; the model has {vocabulary}, and the mask")

    def decode(self, x: Tensor) -> list[str]:
        """Token rows, with shape `(n, L)`, to texts."""
        if self._tokenizer is None:
            return [" ".join(map(str, row)) for row in x.tolist()]
        texts: list[str] = self._tokenizer.decode_batch(x.tolist(), skip_special_tokens=False)
        return texts

    def encode(self, text: str) -> Tensor:
        """A text to its tokens, with shape `(L,)`; the positions after it are masked.

        Raises:
            GuidedError: It has more than `L` tokens, or one is not a token of the model.
        """
        try:
            ids = self._tokenizer.encode(text).ids if self._tokenizer else [int(word) for word in text.split()]
        except ValueError as error:
            raise GuidedError(f"a sample without a tokenizer.json is numbers separated by spaces: {error}") from error
        if len(ids) > self.length or not all(0 <= i <= self.vocabulary for i in ids):
            raise GuidedError(
                f"the text has {len(ids)} tokens, from {min(ids)} to {max(ids)}; "
                f"there is room for {self.length}, from 0 to {self.vocabulary - 1}, and {self.vocabulary} is free"
            )
        return torch.tensor([*ids, *[self.vocabulary] * (self.length - len(ids))], device="cpu")


def _tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError(f"{path} needs the package tokenizers: pip install guided") from error
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises plain Exceptions
        raise GuidedError(f"{path} is no tokenizer: {error}") from error
