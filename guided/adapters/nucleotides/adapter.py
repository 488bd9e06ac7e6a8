"""Masked diffusion models of DNA and RNA with a label: a folder with `config.json` and `model.safetensors`."""

__all__ = ["load"]

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guided.checkpoints.schemas import Nucleotides, validated
from guided.checkpoints.weights import load_network
from guided.core.codec import Codec
from guided.core.compiling import check_compile, check_layout, compiled, micro_batches
from guided.core.denoiser import Denoiser, Network
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked, temperature_of
from guided.core.prompting import Prompting
from guided.errors import GuidedError, nearest
from guided.nets.convolution import TokenConvolution

#: The codes of nucleotides, whatever the order of a model's alphabet.
NUCLEOTIDES = {"A": 0, "C": 1, "G": 2, "T": 3, "U": 3}
OTHER = 4


def load(
    folder: Path,
    config: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    *,
    compile: str | None = None,
    channels_last: bool | None = None,
    temperature: float | None = None,
) -> Diffusion:
    """The model in a folder. Samples are strings of `L` letters; a prompt is one of its labels.

    Args:
        folder: The folder.
        config: The content of its `config.json`.
        device: Where the network goes.
        dtype: The precision of the network.
        compile: How the network is compiled: "default", or on a GPU "graph"; None for not at all.
        channels_last: Whether convolutions have their channels last in memory; None for True.
        temperature: The temperature of the tokens' distribution; None for that of the configuration.

    Raises:
        GuidedError: The configuration lacks an entry, the weights do not fit it, or an option is not accepted.
    """
    how, layout = check_compile(compile, device), check_layout(channels_last)
    entries = validated(Nucleotides, config, folder / "config.json")
    T = temperature_of(temperature, entries.temperature)
    labels = tuple(entries.labels)

    def make() -> TokenConvolution:
        return TokenConvolution(len(entries.alphabet), len(labels), entries.width, entries.kernel, entries.dilations)

    net, identity = load_network(make, folder / "model.safetensors")
    net.eval().requires_grad_(False).to(device, dtype)
    net.layout = torch.contiguous_format if layout is False else torch.channels_last
    run = compiled(net, how)

    def around(net: nn.Module) -> Denoiser:
        return lambda x, t, label: net(x, label).float().log_softmax(-1)

    letters = Letters(entries.alphabet, entries.length)
    return Diffusion(
        around(run),
        Masked(entries.length, len(entries.alphabet), steps=entries.steps, temperature=T),
        Codec(letters.decode, encode=letters.encode, modality="dna", tokens=letters.codes),
        Prompting(Labels(labels, device), unconditional=labels[0], examples=labels),
        Network(run, around),
        timed=False,
        identity=identity,
        evaluator=micro_batches(net, entries.length, device, how),
    )


class Letters:
    """Sequences of `length` letters as tokens; in the alphabet of RNA, T is read as U, and vice versa."""

    def __init__(self, alphabet: str, length: int) -> None:
        self.alphabet, self.length = alphabet, length
        self.ids = {letter: i for i, letter in enumerate(alphabet)}
        for one, other in ("TU", "UT"):
            self.ids.setdefault(one, self.ids.get(other, -1))

    def decode(self, x: Tensor) -> list[str]:
        """Token rows, with shape `(n, L)`, to strings; a mask is written N."""
        table = bytes((self.alphabet + "N").encode().ljust(256, b"?"))
        return [row.tobytes().translate(table).decode() for row in x.to("cpu", torch.uint8).numpy()]

    def codes(self, x: Tensor) -> Tensor:
        """Token rows to the codes of their nucleotides, with shape `(n, L)`: 0 to 3 for A, C, G and T or U, else 4."""
        return _codes(self.alphabet, x.device).index_select(0, x.flatten()).view_as(x)

    def encode(self, sequence: str) -> Tensor:
        """A string to its tokens, with shape `(L,)`; N is the mask, which leaves a position free.

        Raises:
            GuidedError: It has another length, or an unknown letter.
        """
        ids = {"N": len(self.alphabet), **self.ids}  # in proteins N is a letter
        row = [ids.get(letter, -1) for letter in sequence.upper()]
        if len(row) != self.length or min(row) < 0:
            strange = sorted({a for a in sequence.upper() if ids.get(a, -1) < 0})
            what = f"the letters {', '.join(strange)}" if strange else f"{len(row)} letters"
            raise GuidedError(f"a sequence has {what}; it must have {self.length} of {self.alphabet}, or N")
        return torch.tensor(row, device="cpu")


@lru_cache(maxsize=16)
def _codes(alphabet: str, device: torch.device) -> Tensor:
    """The code of each token, the mask the last of them."""
    codes = [NUCLEOTIDES.get(letter, OTHER) for letter in alphabet]
    return torch.tensor([*codes, OTHER], device="cpu").to(device)


class Labels:
    """Prompts to conditions: the position of each in the list of labels, ignoring case."""

    def __init__(self, labels: Sequence[str], device: torch.device) -> None:
        self.labels, self.device = tuple(labels), device
        self.ids = {label.lower(): i for i, label in enumerate(labels)}

    def __call__(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The labels of `n` prompts, with shape `(n,)`.

        Raises:
            GuidedError: A prompt is not a label.
        """
        for prompt in prompts:
            if prompt.lower() not in self.ids:
                hint, known = nearest(prompt, self.labels), ", ".join(map(repr, self.labels))
                raise GuidedError(f"prompt {prompt!r} is not a label of the model{hint}; its labels are {known}")
        return {"label": torch.tensor([self.ids[p.lower()] for p in prompts], device=self.device)}
