"""Published files that were given in the wrong place: what they are, and how to use them."""

__all__ = ["SINGLE", "advice", "check_effect", "tensors_of"]

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from guided.errors import GuidedError, shown

#: Prefixes of names in a single file of Stable Diffusion.
SINGLE = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.embedders.")
LORA = (".lora_", "lora_unet_", "lora_te", "lora.down", "lora_A", "lora_B")
OTHER = ("dora_scale", "lora_magnitude_vector", "hada_", "lokr_", ".lora_bias", ".diff", ".lora_mid")
PART = ("down_blocks.", "transformer_blocks.", "mid_block.", "encoder.down_blocks.", "text_model.")


def tensors_of(content: Any) -> Mapping[Any, Any]:
    """The mapping of names to tensors in what a file of `torch.save` holds; empty if there is none."""
    for inner in ("state_dict", "model", "module", "ema"):
        if isinstance(content, Mapping) and isinstance(content.get(inner), Mapping):
            content = content[inner]
    return content if isinstance(content, Mapping) and any(isinstance(w, Tensor) for w in content.values()) else {}


def advice(names: Iterable[str], path: Path) -> str:
    """What a file with these names is, if it is often given by mistake, and how to use it; "" otherwise."""
    known = list(names)
    if any(name.startswith(SINGLE) for name in known):
        pipeline = (
            "StableDiffusionXLPipeline" if any("conditioner." in name for name in known) else "StableDiffusionPipeline"
        )
        return (
            f"{path} is a pipeline of Stable Diffusion in a single file; make a folder of it and give that: "
            f'diffusers.{pipeline}.from_single_file("{path}").save_pretrained("FOLDER")'
        )
    if any(part in name for name in known for part in LORA):
        return f"{path} holds LoRA weights; give the pipeline, with lora={path}, or a model with negative={path}"
    if any(name.startswith(PART) for name in known):
        return f"{path} is one network of a pipeline; give the folder of the whole pipeline, with model_index.json"
    return ""


def check_effect(names: Iterable[str], path: Path) -> None:
    """Refuses LoRA weights of which a part would be dropped silently.

    Raises:
        GuidedError: There are tensors other than the two matrices of plain LoRA.
    """
    strange = [name for name in names if any(part in name for part in OTHER)]
    if strange:
        raise GuidedError(
            f"{path} has tensors that are not used: {shown(strange[:3])}; plain LoRA weights (lora_A and lora_B, or "
            "lora_down and lora_up, and alpha) are read, without DoRA's scales, LoHa, LoKr, and biases"
        )
