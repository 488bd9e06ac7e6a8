"""Masked diffusion models of molecules as trees of fragments: a folder with `config.json` and `model.safetensors`."""

__all__ = ["load"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from guided.adapters.fragments.tokens import FragmentTokens
from guided.adapters.pieces import Decoder
from guided.checkpoints.schemas import Fragments, validated
from guided.checkpoints.weights import load_network
from guided.core.codec import Codec
from guided.core.compiling import check_compile, compiled, micro_batches
from guided.core.denoiser import Denoiser, Network
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked, temperature_of
from guided.errors import GuidedError
from guided.nets.transformer import TokenTransformer


def load(
    folder: Path,
    config: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    *,
    compile: str | None = None,
    temperature: float | None = None,
) -> Diffusion:
    """The model in a folder.

    Args:
        folder: The folder.
        config: The content of its `config.json`.
        device: Where the network goes.
        dtype: The precision of the network.
        compile: How the network is compiled: "default", or on a GPU "graph"; None for not at all.
        temperature: The temperature of the tokens' distribution; None for that of the configuration.

    Raises:
        GuidedError: The configuration lacks an entry, a fragment is no molecule, the weights do not fit, or the network
            cannot be compiled so.
    """
    how = check_compile(compile, device)
    path = folder / "config.json"
    entries = validated(Fragments, config, path)
    T = temperature_of(temperature, entries.temperature)
    try:
        tokens = read_tokens(entries)
    except GuidedError as error:
        raise GuidedError(f"{path} is not a usable configuration: {error}") from error

    def make() -> TokenTransformer:
        return TokenTransformer(
            tokens.vocabulary, tokens.length, entries.width, entries.depth, entries.heads, entries.activation
        )

    net, identity = load_network(make, folder / "model.safetensors")
    run = compiled(net.eval().requires_grad_(False).to(device, dtype), how)

    def around(net: nn.Module) -> Denoiser:
        return lambda x, t: net(x).float().log_softmax(-1)

    return Diffusion(
        around(run),
        Masked(tokens.length, tokens.vocabulary, steps=entries.steps, temperature=T),
        Codec(
            Decoder(tokens.smiles),
            encode=lambda smiles: tokens.pad(tokens.encode(smiles)),
            modality="molecules",
        ),
        network=Network(run, around),
        timed=False,
        identity=identity,
        evaluator=micro_batches(net, tokens.length, device, how),
    )


def read_tokens(entries: Fragments) -> FragmentTokens:
    """The tokens of a configuration.

    Raises:
        GuidedError: A fragment is no molecule or there twice, or a node has a site that its fragment does not have.
    """
    nodes = tuple((number, sites[0], tuple(sites[1:])) for number, *sites in entries.nodes)
    merges = tuple((left, right) for left, right in entries.merges)
    return FragmentTokens(entries.sites, tuple(entries.fragments), nodes, merges, entries.length)
