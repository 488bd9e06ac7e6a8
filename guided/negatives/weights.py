"""The files of negative checkpoints: ours, with a card, and published ones without."""

__all__ = ["FULL", "FULL_PART", "LORA", "NEGATIVES", "Stored", "read_stored"]

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from guided.checkpoints import FOLDER, read_config
from guided.checkpoints.torch_files import read_torch
from guided.core.denoiser import Network
from guided.errors import GuidedError, nearest
from guided.negatives.lora import PREFIX
from guided.storage import digest, read_tensors

LORA = "pytorch_lora_weights.safetensors"
FULL_PART = "diffusion_pytorch_model.safetensors"  # of a part of a pipeline
FULL = "model.safetensors"

#: Where the negative checkpoints lie that the package ships, each by the name of its model.
NEGATIVES = FOLDER / "negatives"


@dataclass(frozen=True)
class Stored:
    """What a file holds.

    Args:
        name: As it was asked for.
        weights: LoRA weights by `part.layer.lora_A.weight`, or a network's whole state.
        lora: Whether they are LoRA weights.
        digest: The SHA-256 of the file.
        card: What our own training wrote; None for a published file.
        alphas: The scales of LoRA weights, where the file has any.
    """

    name: str
    weights: Mapping[str, Tensor]
    lora: bool
    digest: str
    card: Mapping[str, Any] | None = None
    alphas: Mapping[str, float] | None = None


def read_stored(negative: str | Path, network: Network) -> Stored:
    """Reads a negative checkpoint.

    Raises:
        ValueError: There is none, it is not finished, or it cannot be read.
    """
    path = Path(negative)
    if not path.exists() and (NEGATIVES / str(negative)).is_dir():
        path = NEGATIVES / str(negative)
    if not path.exists():
        known = sorted(folder.name for folder in NEGATIVES.glob("*") if folder.is_dir())
        raise GuidedError(
            f"there is no negative checkpoint {str(negative)!r}{nearest(str(negative), known)}; it is a folder that "
            f"`guided npo train` wrote, a file of weights, or a model with one that is shipped: {', '.join(known)}"
        )
    card = None
    if path.is_dir() and (path / "config.json").is_file():
        card = read_config(path)
        if card["kind"] == "negative" and "metrics" not in card:
            raise GuidedError(f"the negative checkpoint in {str(path)!r} is not finished; give the same command again")
        card = card if card["kind"] == "negative" else None
    file = _file(path)
    weights: Mapping[str, Tensor] = _read(file)
    if not any(".lora" in key or key.startswith("lora") for key in weights):
        return Stored(str(negative), _bare(weights, network), False, digest(file), card)
    alphas: Mapping[str, float] | None = None
    if network.read_lora is not None:
        try:
            weights, alphas = network.read_lora(weights)
        except Exception as error:  # whatever diffusers says
            raise GuidedError(f"{str(file)!r} has no LoRA weights that can be read: {error}") from error
    return Stored(str(negative), weights, True, digest(file), card, alphas)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in (LORA, FULL_PART, FULL):
        if (path / name).is_file():
            return path / name
    raise GuidedError(f"{str(path)!r} holds no negative checkpoint: none of {LORA}, {FULL_PART} and {FULL} is there")


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return read_tensors(file)
    weights = read_torch(file)
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise GuidedError(f"{file} holds no weights by their names")
    return weights


def _bare(weights: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """A network's whole state without a prefix that all names have."""
    for start in (f"{network.part or PREFIX}.", "module."):
        if all(key.startswith(start) for key in weights):
            return {key.removeprefix(start): weight for key, weight in weights.items()}
    return dict(weights)
