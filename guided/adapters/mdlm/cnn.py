"""Lightning checkpoints of MDLM's line with the convolutional network, as SVDD and DRAKES publish for DNA and RNA."""

__all__ = ["load"]

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guided.adapters.mdlm.common import check, check_length, fill, subs
from guided.adapters.nucleotides.adapter import Letters
from guided.checkpoints.published import advice, tensors_of
from guided.checkpoints.schemas import check_alphabet
from guided.checkpoints.torch_files import entry, read_torch
from guided.checkpoints.weights import plain_names, read_tensors, sketched
from guided.core.codec import Codec
from guided.core.compiling import check_compile, compiled, micro_batches
from guided.core.denoiser import Network
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.errors import GuidedError, shown
from guided.nets.mdlm_cnn import DILATIONS, MaskedCNN
from guided.storage import digest

PREFIX = "backbone."

#: The values that a checkpoint's own configuration may have, where it has any.
ACCEPTED = {("parameterization",): "subs", ("noise", "type"): "loglinear"}


def load(
    path: Path,
    config: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    *,
    length: int | None = None,
    alphabet: str = "ACGT",
    ema: bool = True,
    compile: str | None = None,
) -> Diffusion:
    """The model in a file; samples are strings of `length` letters.

    Args:
        path: A checkpoint of Lightning, or a state dictionary alone, with keys that start with `backbone.`.
        config: Not used: the file has no configuration beside it.
        device: Where the network goes.
        dtype: The precision of the network.
        length: The length of the sequences; None for that of the file's hyperparameters. The weights work with any.
        alphabet: The letters of the tokens, without the mask, in their order.
        ema: Whether to take the averaged weights, if the file has any. SVDD's and DRAKES's own scripts sample with
            the raw ones.
        compile: How the network is compiled: "default", or on a GPU "graph"; None for not at all.

    Raises:
        GuidedError: The file cannot be read, is of another architecture, or does not give a length.
    """
    how = check_compile(compile, device)
    _check_options(alphabet, ema)
    file = read_tensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if hint := advice(map(str, tensors_of(file)), path):
        raise GuidedError(hint)
    settings = entry(file, "hyper_parameters", "config") or entry(file, "hyper_parameters")
    timed = _check(settings, path)
    length = _length(settings, path) if length is None else length
    weights = _backbone(file, path)
    size = _size(weights)
    check(sketched(lambda: MaskedCNN(len(alphabet) + 1, **size), path), weights, path)
    length = check_length(length, size["width"], len(alphabet) + 1, device)
    net = MaskedCNN(len(alphabet) + 1, **size)
    shadow = entry(file, "ema", "shadow_params")
    if shadow is not None and ema:
        weights = weights | _averaged(shadow, [n for n, p in net.named_parameters() if p.requires_grad], path)
    fill(net, weights, path, device, dtype)
    run = compiled(net, how)
    around = partial(subs, dtype=dtype, device=device, timed=timed)
    letters = Letters(alphabet, length)
    return Diffusion(
        around(run),
        Masked(length, len(alphabet), steps=128),
        Codec(letters.decode, encode=letters.encode, tokens=letters.codes),
        network=Network(run, around),
        timed=timed,
        identity=digest(path) + ("" if ema or shadow is None else "-raw"),
        evaluator=micro_batches(net, length, device, how),
    )


def _check_options(alphabet: Any, ema: Any) -> None:
    if not isinstance(ema, bool):
        raise GuidedError(f"ema is {shown(ema)}; it must be true or false")
    try:
        check_alphabet(alphabet if isinstance(alphabet, str) else "")
    except ValueError as error:
        raise GuidedError(f"alphabet is {shown(alphabet)}; {error}") from error


def _check(settings: Any, path: Path) -> bool:
    """Whether the model is conditioned on the time; checks the other settings against `ACCEPTED`."""
    for keys, accepted in ACCEPTED.items():
        given = entry(settings, *keys)
        if isinstance(given, str) and given != accepted:
            raise GuidedError(f"{path} was trained with {'.'.join(keys)} {given!r}; only {accepted!r} is read")
    return entry(settings, "time_conditioning") is True


def _length(settings: Any, path: Path) -> int:
    length = entry(settings, "model", "length")
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise GuidedError(
            f'{path} does not say how long its sequences are; write "{path}?length=200", or load(..., length=200) '
            "(SVDD's and DRAKES's DNA has 200 letters, their RNA 50)"
        )
    return length


def _backbone(file: Any, path: Path) -> dict[str, Tensor]:
    """The network's tensors, without the prefix. Nothing else in a checkpoint is needed to sample."""
    state = entry(file, "state_dict") or file
    state = state if isinstance(state, Mapping) else {}
    names = plain_names(key for key in state if isinstance(key, str))
    weights = {name[len(PREFIX) :]: state[key] for name, key in names.items() if name.startswith(PREFIX)}
    if not weights or not all(isinstance(w, Tensor) for w in weights.values()):
        raise GuidedError(f"{path} holds no weights under keys that start with {PREFIX!r}")
    if "vocab_embed.embedding" in weights:
        raise GuidedError(
            f"{path} holds a DiT; that is read as a folder with Hugging Face's config.json and model.safetensors"
        )
    if "cls_embedder.weight" in weights:
        raise GuidedError(f"{path} holds a network with class labels (cls_embedder.weight), which is not read")
    return weights


def _size(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The width and the number of stacks that the weights seem to have, or else those of the releases."""
    layers = {match[1] for match in (re.match(r"convs\.(\d+)\.", key) for key in weights) if match}
    width = weights["convs.0.bias"].numel() if "convs.0.bias" in weights else 128
    return {"width": width, "stacks": math.ceil(len(layers) / len(DILATIONS)) or 4}


def _averaged(shadow: Any, names: list[str], path: Path) -> dict[str, Tensor]:
    """The averaged weights: a list in the order of the trained parameters."""
    if not isinstance(shadow, list) or len(shadow) != len(names) or not all(isinstance(w, Tensor) for w in shadow):
        number = len(shadow) if isinstance(shadow, list) else "no"
        raise GuidedError(
            f"{path} has {number} averaged weights for {len(names)} parameters; ema=False takes the raw ones"
        )
    return dict(zip(names, shadow, strict=True))
