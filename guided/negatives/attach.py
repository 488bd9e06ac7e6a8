"""A negative checkpoint as the negative side of a model's guidance."""

__all__ = ["attach"]

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from guided.core.compiling import compilation_of, compiled
from guided.core.denoiser import Network
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError, shown
from guided.loading import load
from guided.negatives.fingerprint import equal_weights, fingerprint, same_fingerprint
from guided.negatives.lora import merged_weights, put_lora, scale_lora
from guided.negatives.merge import check_mixing, merge
from guided.negatives.weights import NegativeWeights, read_negative
from guided.settings import torch_defaults
from guided.storage import digest_of


@torch_defaults()
def attach(model: Any, negative: str | Path, *, alpha: float = 1.0, beta: float = 0.0, base: Any = None) -> Diffusion:
    r"""The model, with a negative checkpoint on the negative side of its guidance.

    LoRA weights share the weights of the model; full ones are a second network.

    Args:
        model: A model, or what :func:`guided.load` takes.
        negative: A folder of `guided npo train`, the name of a shipped model, for its own negative checkpoint, or a
            published file: LoRA weights, or a whole network.
        alpha: How far the negative side moves away from the base; 0 is plain classifier-free guidance.
        beta: The share of the positive model's own offset from the base that is left out, in [0, 1].
        base: What the checkpoint was trained from, as `load` takes it, if that is not the model itself.

    Raises:
        GuidedError: The checkpoint cannot be read or was trained from another base, or alpha or beta is out of range.
    """
    check_mixing(alpha, beta)
    alpha, beta = float(alpha), float(beta)
    model = model if isinstance(model, Diffusion) else load(model)
    network = model.trainable("it takes no negative checkpoint")
    checkpoint = read_negative(negative, network)
    base_network = _base_network(checkpoint, model, base)
    try:
        module = _combined(checkpoint, network, base_network, alpha, beta)
    except GuidedError as error:
        raise GuidedError(f"the negative checkpoint {shown(checkpoint.name)}: {error}") from error
    weight = next(network.bare.parameters())
    module = module.to(weight.device).eval().requires_grad_(False)
    module = compiled(module, compilation_of(network.module))
    base_fingerprint = "" if base_network is None else fingerprint(base_network)
    key = f"{model.identity} {checkpoint.digest} {alpha} {beta} {base_fingerprint}"
    identity = digest_of(key)
    return replace(model.with_negative(network.around(module)), identity=identity)


def _base_network(checkpoint: NegativeWeights, model: Diffusion, base: Any) -> nn.Module | None:
    """The network that the checkpoint was trained from, if it is not the model's own."""
    other = None if base is None else (base if isinstance(base, Diffusion) else load(base, device=str(model.device)))
    if other is not None and other.network is None:
        raise GuidedError(f"the base {other.name} does not say which network it has")
    network = (other or model).trainable()
    if checkpoint.card is not None:
        recorded = checkpoint.card["base"]
        same, distance = same_fingerprint(recorded["network"], fingerprint(network.bare))
        if not same:
            what = "has another architecture" if distance == float("inf") else f"differs by {distance:.2g}"
            hint = ""
            if recorded["name"] == (other or model).name:
                hint = ": these are other weights of that name; train the checkpoint again"
            elif base is None and distance < float("inf"):
                hint = f"; give base={recorded['name']!r}"
            raise GuidedError(
                f"the negative checkpoint {checkpoint.name!r} was trained from {recorded['name']!r}, "
                f"and {(other or model).name!r} {what}{hint}"
            )
    if other is None or equal_weights(network.bare, model.trainable().bare):
        return None
    return network.bare


def _combined(
    checkpoint: NegativeWeights, network: Network, base: nn.Module | None, alpha: float, beta: float
) -> nn.Module:
    """The network of the negative side."""
    positive = network.bare
    if checkpoint.lora and (base is None or beta == 0):
        adapted: nn.Module = put_lora(positive, checkpoint.weights, network.part, checkpoint.alphas)
        scale_lora(adapted, alpha)
        return adapted
    start = positive if base is None else base
    weights: Mapping[str, Tensor] = checkpoint.weights
    if checkpoint.lora:
        weights = merged_weights(put_lora(start, checkpoint.weights, network.part, checkpoint.alphas))
    merged = merge(start.state_dict(), positive.state_dict(), weights, alpha, beta)
    module = copy.deepcopy(positive)
    module.load_state_dict(merged)
    return module
