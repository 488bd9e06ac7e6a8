"""Checkpoints: a folder with `config.json` and `model.safetensors`. Nothing is ever unpickled."""

__all__ = ["FOLDER", "read_config", "read_object"]

import json
from pathlib import Path
from typing import Any

from guided.errors import GuidedError, shown

#: The folder of the checkpoints that the package ships.
FOLDER = Path(__file__).parent


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of the checkpoint in a folder.

    Raises:
        GuidedError: It is missing, or not a JSON object with a `kind`.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise GuidedError(f"{folder} holds no checkpoint: it has neither config.json nor model_index.json")
    config = read_object(path)
    if not isinstance(config.get("kind"), str):
        raise GuidedError(f"{path} must be a JSON object with a 'kind', a name; it has {shown(config.get('kind'))}")
    return config


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        GuidedError: It cannot be read, or is not a JSON object.
    """
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
        raise GuidedError(f"{path} is not JSON: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise GuidedError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(config, dict):
        raise GuidedError(f"{path} must be a JSON object with a 'kind'; it holds {shown(config)}")
    return config
