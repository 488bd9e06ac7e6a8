"""The files of negative checkpoints: those of our training, which have a card, and published ones without."""

__all__ = ["FULL", "FULL_PART", "LORA", "NEGATIVES", "NegativeWeights", "read_negative"]

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from guided.checkpoints import FOLDER, read_config, read_object
from guided.checkpoints.published import SINGLE, advice, check_effect, tensors_of
from guided.checkpoints.schemas import Card, validated
from guided.checkpoints.torch_files import read_torch, reason_of
from guided.checkpoints.weights import check_finite, exists, plain_names, read_tensors, weights_digest
from guided.core.denoiser import Network
from guided.errors import GuidedError, nearest, shown
from guided.negatives.lora import PREFIX

LORA = "pytorch_lora_weights.safetensors"
FULL_PART = "diffusion_pytorch_model.safetensors"  # of one network of a pipeline
FULL = "model.safetensors"
#: Names of weights in a folder, ours first, then those that diffusers, peft and transformers write.
NAMES = (LORA, FULL_PART, FULL, "adapter_model.safetensors", "diffusion_pytorch_model.bin", "pytorch_model.bin")

#: The folder of the negative checkpoints that the package ships, each under the name of its model.
NEGATIVES = FOLDER / "negatives"


@dataclass(frozen=True)
class NegativeWeights:
    """The weights of a negative checkpoint.

    Args:
        name: The name or path that was given.
        weights: LoRA weights by `part.layer.lora_A.weight`, or a network's whole state.
        lora: Whether they are LoRA weights.
        digest: The SHA-256 of the file.
        card: The configuration that our training wrote; None for a published file.
        alphas: The scales of LoRA weights, where the file has any.
    """

    name: str
    weights: Mapping[str, Tensor]
    lora: bool
    digest: str
    card: Mapping[str, Any] | None = None
    alphas: Mapping[str, float] | None = None


def read_negative(negative: str | Path, network: Network) -> NegativeWeights:
    """Reads a negative checkpoint.

    Raises:
        GuidedError: There is none, it is not finished, or it cannot be read.
    """
    path = _found(negative)
    card = _card(path) if path.is_dir() else None
    file = _file(path, network)
    weights: Mapping[str, Tensor] = _read(file)
    if not any(".lora" in key or key.startswith("lora") for key in weights):
        if any(key.startswith(SINGLE) for key in weights):
            raise GuidedError(advice(weights, file))
        return NegativeWeights(str(negative), _bare(weights, network), False, weights_digest(file), card)
    whole = next((key for key, weight in weights.items() if not weight.is_floating_point()), None)
    if whole is not None:
        raise GuidedError(f"{file} has {whole} in {weights[whole].dtype}; LoRA weights are numbers with a fraction")
    weights, alphas = _layers(weights, network, file)
    return NegativeWeights(str(negative), weights, True, weights_digest(file), card, alphas)


def _found(negative: str | Path) -> Path:
    """The file or folder of that name, or the shipped one."""
    try:
        path = Path(negative).expanduser()
        if path.exists():
            return path
        if (NEGATIVES / str(negative)).is_dir():
            return NEGATIVES / str(negative)
    except (OSError, RuntimeError):  # not a valid file name, or no home folder
        pass
    known = sorted(folder.name for folder in NEGATIVES.glob("*") if folder.is_dir())
    raise GuidedError(
        f"there is no negative checkpoint {shown(str(negative))}{nearest(str(negative), known)}; it is a folder that "
        f"`guided npo train` wrote, a file of weights, or a shipped model that has one: {', '.join(known)}"
    )


def _card(folder: Path) -> dict[str, Any] | None:
    """The configuration that our training wrote beside the weights; None in a folder of another program."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    config = read_object(path)
    if "kind" not in config:  # of `save_pretrained`
        return None
    if read_config(folder)["kind"] != "negative":
        return None
    if "metrics" not in config:
        raise GuidedError(f"the negative checkpoint in {str(folder)!r} is not finished; give the same command again")
    validated(Card, config, path)
    return config


def _file(path: Path, network: Network) -> Path:
    """The weights at a path; in a pipeline's folder those of its network."""
    if path.is_file():
        return path
    inner = path / network.part if network.part and (path / network.part).is_dir() else path
    for name in NAMES:
        if exists(inner / name):
            return inner / name
    raise GuidedError(f"{str(inner)!r} holds no negative checkpoint: none of {', '.join(NAMES)} is there")


def _read(file: Path) -> dict[str, Tensor]:
    weights = read_tensors(file) if file.suffix == ".safetensors" else dict(tensors_of(read_torch(file)))
    if not weights or not all(isinstance(w, Tensor) for w in weights.values()):
        raise GuidedError(f"{file} holds no mapping of names to weights")
    check_finite(weights, file)
    return {str(key): weight for key, weight in weights.items()}


def _layers(
    weights: Mapping[str, Tensor], network: Network, file: Path
) -> tuple[Mapping[str, Tensor], Mapping[str, float] | None]:
    """LoRA weights of any layout under our own names, and their alphas.

    Raises:
        GuidedError: They cannot be read, or a tensor would have no effect.
    """
    if network.read_lora is None:
        return weights, None
    check_effect(weights, file)
    try:
        found, alphas = network.read_lora(weights)
    except Exception as error:  # from diffusers, of any class
        raise GuidedError(f"{str(file)!r} has no LoRA weights that can be read: {reason_of(error)}") from error
    given = [key for key in weights if not key.endswith("alpha")]
    if len(found) < len(given):
        raise GuidedError(f"{str(file)!r} has {len(given)} LoRA tensors of which only {len(found)} are known")
    return found, alphas


def _bare(weights: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """A network's whole state without the prefixes of wrappers around it."""
    wanted = network.bare.state_dict().keys()
    names = {key: key for key in weights} if wanted == weights.keys() else plain_names(weights)
    start = f"{network.part or PREFIX}."
    inner = start if all(name.startswith(start) for name in names) else ""
    return {name.removeprefix(inner): weights[key] for name, key in names.items()}
