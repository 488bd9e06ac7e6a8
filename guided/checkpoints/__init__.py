"""Checkpoints: a folder with `config.json` and `model.safetensors`. Nothing is ever unpickled."""

__all__ = ["FOLDER", "read_config", "read_weights"]

import json
from pathlib import Path
from typing import Any

from torch import nn

from guided.errors import GuidedError
from guided.storage import digest, read_tensors

#: Where the checkpoints lie that the package ships.
FOLDER = Path(__file__).parent


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of the checkpoint in a folder.

    Raises:
        ValueError: It is missing, or no JSON object with a `kind`.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise GuidedError(f"{folder} holds no checkpoint: it has neither config.json nor model_index.json")
    try:
        config = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GuidedError(f"{path} is no JSON: {error}") from error
    if not isinstance(config, dict) or "kind" not in config:
        raise GuidedError(f"{path} must be a JSON object with a 'kind'")
    return config


def read_weights(net: nn.Module, path: Path) -> str:
    """Loads the weights into a network, in the network's own precision.

    Returns:
        The SHA-256 digest of the file.

    Raises:
        ValueError: The file is missing, truncated or no safetensors, or a key or shape differs; it names the first.
    """
    if not path.is_file():
        raise GuidedError(f"{path.parent} has no {path.name}")
    weights = read_tensors(path)
    wanted = net.state_dict()
    for key in sorted(wanted.keys() | weights.keys()):
        have, want = weights.get(key), wanted.get(key)
        if have is None or want is None or have.shape != want.shape:
            shapes = [tuple(w.shape) if w is not None else "nothing" for w in (have, want)]
            raise GuidedError(f"{path} is of another architecture: {key} is {shapes[0]}, the network has {shapes[1]}")
    net.load_state_dict(weights)
    return digest(path)
