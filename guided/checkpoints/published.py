"""Published files that are not read as what they were given for: what they are, and what to do with them."""

__all__ = ["advice", "names_in"]

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from guided.checkpoints.torch_files import read_torch
from guided.checkpoints.weights import header

#: What some names of a file begin with, and what the file is.
SINGLE = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.embedders.")
LORA = (".lora_", "lora_unet_", "lora_te", "lora.down", "lora_A", "lora_B")
PART = ("down_blocks.", "transformer_blocks.", "mid_block.", "encoder.down_blocks.", "text_model.")


def names_in(path: Path) -> list[str]:
    """The names of the tensors in a file.

    Raises:
        GuidedError: It cannot be read.
    """
    if path.suffix == ".safetensors":
        return list(header(path))
    content = read_torch(path)
    return list(map(str, tensors_of(content)))


def tensors_of(content: Any) -> Mapping[Any, Any]:
    """The mapping of names to tensors in what a file of `torch.save` holds; empty if there is none."""
    for inner in ("state_dict", "model", "module", "ema"):
        if isinstance(content, Mapping) and isinstance(content.get(inner), Mapping):
            content = content[inner]
    return content if isinstance(content, Mapping) and any(isinstance(w, Tensor) for w in content.values()) else {}


def advice(names: Iterable[str], path: Path) -> str:
    """What a file of these names is, if it is one that people give in another's place; "" if it is none."""
    known = list(names)
    if any(name.startswith(SINGLE) for name in known):
        kind = (
            "StableDiffusionXLPipeline" if any("conditioner." in name for name in known) else "StableDiffusionPipeline"
        )
        return (
            f"{path} is a pipeline of Stable Diffusion in a single file; make a folder of it and give that: "
            f'diffusers.{kind}.from_single_file("{path}").save_pretrained("FOLDER")'
        )
    if any(part in name for name in known for part in LORA):
        return f"{path} holds LoRA weights; give the pipeline, with lora={path}, or a model with negative={path}"
    if any(name.startswith(PART) for name in known):
        return f"{path} is one network of a pipeline; give the folder of the whole pipeline, with model_index.json"
    return ""
