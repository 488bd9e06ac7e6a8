"""Low-rank adapters on any network, by peft, and their files in diffusers' layout.

References:
    | LoRA: Low-Rank Adaptation of Large Language Models (Hu et al., 2021)
    | https://arxiv.org/abs/2106.09685
"""

__all__ = ["PREFIX", "TARGETS", "add_lora", "check_lora", "lora_weights", "merged_weights", "put_lora", "scale_lora"]

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from guided.core.denoiser import view
from guided.errors import GuidedError, shown

NAME = "negative"
PREFIX = "network"  # of the names in a file, where there is no pipeline

#: Ends of the names of layers that get adapters: attention, feed-forward layers, convolutions.
TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    *("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
    *("conv1", "conv2", "time_emb_proj", "qkv", "up", "down", "out", "attn_qkv", "attn_out", "mlp.0", "mlp.2"),
)


def peft() -> Any:
    """The library.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import peft as library
    except ImportError as error:
        raise ImportError("LoRA weights need peft: pip install guided") from error
    return library


def targets_in(module: nn.Module, targets: Sequence[str] = TARGETS) -> list[str]:
    """The names of the layers that get adapters.

    Raises:
        GuidedError: There are none.
    """
    ends = tuple(f".{end}" for end in targets)
    found = [n for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d) and f".{n}".endswith(ends)]
    if not found:
        raise GuidedError("the network has no layers for LoRA weights; train its full weights (lora 0)")
    return found


def check_lora(module: nn.Module) -> None:
    """Checks early that a network can have adapters.

    Raises:
        GuidedError: There are no layers for them.
        ImportError: peft is not installed.
    """
    peft()
    targets_in(module)


def add_lora(module: nn.Module, rank: int, targets: Sequence[str] = TARGETS) -> Any:
    """A view of a network with new adapters, which have no effect yet; only they are trainable, in float32."""
    library, names = peft(), targets_in(module, targets)
    config = library.LoraConfig(r=rank, lora_alpha=rank, target_modules=names, init_lora_weights="gaussian")
    adapted = library.inject_adapter_in_model(config, view(module).requires_grad_(False), NAME)
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_(".lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def lora_weights(adapted: nn.Module, part: str) -> dict[str, Tensor]:
    """The adapters' weights under their names in a file: `unet.down_blocks.0 ... .lora_A.weight`."""
    weights = peft().get_peft_model_state_dict(adapted, adapter_name=NAME)
    return {f"{part or PREFIX}.{key}": weight for key, weight in weights.items()}


def put_lora(
    module: nn.Module, weights: Mapping[str, Tensor], part: str, alphas: Mapping[str, float] | None = None
) -> Any:
    """A view of a network with the adapters of a file.

    Args:
        module: The network.
        weights: `part.layer.lora_A.weight` and `.lora_B.weight`, in any precision.
        part: The part of the pipeline; "" for none.
        alphas: The alpha of each layer, if the update is `alpha / rank` times `B A`; None if it is `B A`.

    Raises:
        GuidedError: The weights do not fit the layers of this network.
    """
    start = f"{part or PREFIX}."
    mine = {k.removeprefix(start): w for k, w in weights.items() if k.startswith(start)}
    _check_used(weights, start)
    halves: dict[str, dict[str, Tensor]] = {}
    for key, weight in mine.items():
        layer, _, half = key.removesuffix(".weight").rpartition(".")
        halves.setdefault(layer, {})[{"down": "lora_A", "up": "lora_B"}.get(half, half)] = weight
    halves = {layer.removesuffix(".lora"): pair for layer, pair in halves.items()}
    _check(module, halves)
    library = peft()
    given = {key.split(".lora_")[0].removesuffix(".alpha"): alpha for key, alpha in (alphas or {}).items()}
    ranks = {layer: pair["lora_A"].shape[0] for layer, pair in halves.items()}
    scales = {layer: float(given.get(f"{start}{layer}", rank)) for layer, rank in ranks.items()}
    config = library.LoraConfig(
        r=1, lora_alpha=1, target_modules=list(ranks), rank_pattern=_exact(ranks), alpha_pattern=_exact(scales)
    )
    adapted = library.inject_adapter_in_model(config, view(module), NAME)
    state = {f"{layer}.{half}.weight": w.float() for layer, pair in halves.items() for half, w in pair.items()}
    library.set_peft_model_state_dict(adapted, state, adapter_name=NAME)
    return adapted.requires_grad_(False).eval()


def _exact(table: Mapping[str, float]) -> dict[str, float]:
    """Patterns for peft, which takes keys as regular expressions and matches them with the ends of names."""
    return {"^" + key.replace(".", r"\."): value for key, value in table.items()}


def _check_used(weights: Mapping[str, Tensor], start: str) -> None:
    """Refuses weights of other parts of the pipeline, such as the text encoder, which would have no effect."""
    others = [key for key in weights if not key.startswith(start)]
    if len(others) == len(weights):
        raise GuidedError(
            f"the file has no LoRA weights whose names begin with {start!r}; they begin as {shown(others[:2])}"
        )
    if others:
        raise GuidedError(
            f"{len(others)} of the file's {len(weights)} LoRA tensors are not for the network ({start!r}), the only "
            f"part with a negative side: {shown(others[:3])}; save those of the network by themselves"
        )


def _check(module: nn.Module, halves: Mapping[str, Mapping[str, Tensor]]) -> None:
    layers = dict(module.named_modules())
    for layer, pair in halves.items():
        if pair.keys() != {"lora_A", "lora_B"}:
            missing = sorted({"lora_A", "lora_B"} - pair.keys()) or sorted(pair)
            raise GuidedError(f"the LoRA weights of {layer!r} are not complete: {', '.join(missing)}")
        weight = getattr(layers.get(layer), "weight", None)
        shape = None if weight is None else tuple(weight.shape)
        a, b = (tuple(pair[half].shape) for half in ("lora_A", "lora_B"))
        kernel = () if shape is None else shape[2:]
        rank = a[0] if a else 0
        due = () if not rank or not shape else ((rank, *shape[1:]), (shape[0], rank, *[1] * len(kernel)))
        fitting = shape is not None and len(shape) > 1 and (a, b) == due
        if not fitting:
            what = "is not a layer of the network" if shape is None else f"has shape {shape}"
            raise GuidedError(f"LoRA weights {a} and {b} are for {layer!r}, which {what}")


def scale_lora(adapted: nn.Module, factor: float) -> None:
    """Multiplies the updates of the adapters."""
    for layer in _layers(adapted).values():
        layer.scaling[NAME] *= factor


@torch.no_grad()
def merged_weights(adapted: nn.Module) -> dict[str, Tensor]:
    """The weights of the whole network with the adapters' updates added, by their names in the plain network."""
    weights = {}
    for key, weight in adapted.state_dict().items():
        if ".lora_" not in key:
            weights[key.replace(".base_layer.", ".")] = weight
    for name, layer in _layers(adapted).items():
        delta = layer.get_delta_weight(NAME)
        weights[f"{name}.weight"] = (weights[f"{name}.weight"].double() + delta.double()).to(weights[f"{name}.weight"])
    return weights


def _layers(adapted: nn.Module) -> dict[str, Any]:
    found = peft().tuners.lora.LoraLayer
    return {name: layer for name, layer in adapted.named_modules() if isinstance(layer, found)}
