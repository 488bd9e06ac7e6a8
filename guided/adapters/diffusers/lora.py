"""LoRA weights, merged into a pipeline. Every tensor of the file must have an effect.

Diffusers treats a file with unknown names as one without weights, and only warns. So the weights that it loaded are
compared with the file's, number by number.
"""

__all__ = ["add_lora", "lora_reader"]

import hashlib
import importlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from guided.adapters.diffusers.quiet import quiet
from guided.checkpoints.published import check_effect
from guided.checkpoints.torch_files import reason_of
from guided.checkpoints.weights import check_finite
from guided.errors import GuidedError, shown


def add_lora(pipeline: Any, name: str | Path, scale: float) -> None:
    """Merges LoRA weights into the networks of a pipeline.

    Args:
        pipeline: A pipeline of diffusers.
        name: A file, a folder or a repository.
        scale: The weight.

    Raises:
        GuidedError: They cannot be read, or one of their tensors would have no effect.
        ImportError: peft is not installed.
    """
    if not hasattr(pipeline, "load_lora_weights"):
        raise GuidedError(f"{type(pipeline).__name__} takes no LoRA weights")
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ImportError("LoRA weights need peft: pip install guided") from error
    path = Path(name).expanduser()
    adapter = f"lora{len(pipeline.get_list_adapters())}_{path.stem}".replace(".", "_").replace("-", "_")
    given: tuple[str, dict[str, Any]] = (str(name), {})
    try:
        if path.is_file():
            given = str(path.parent), {"weight_name": path.name}
            _check_names(path)
        with quiet():
            found = pipeline.lora_state_dict(given[0], **given[1])
            pipeline.load_lora_weights(given[0], **given[1], adapter_name=adapter)
            _check_used(found[0] if isinstance(found, tuple) else found, _loaded(pipeline, adapter), str(name))
            pipeline.fuse_lora(lora_scale=scale, adapter_names=[adapter])
            pipeline.unload_lora_weights()
    except GuidedError:
        raise
    except Exception as error:  # from the hub or the file, of any class
        raise GuidedError(f"cannot load the LoRA weights {shown(str(name))}: {reason_of(error)}") from error


def _check_names(path: Path) -> None:
    """Checks a file for tensors that diffusers drops silently."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                check_effect(file.keys(), path)
        except (SafetensorError, OSError) as error:
            raise GuidedError(f"cannot load the LoRA weights {str(path)!r}: truncated, or no safetensors") from error


def _loaded(pipeline: Any, adapter: str) -> list[Tensor]:
    """The weights of an adapter in the networks of a pipeline."""
    parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    return [w for part in parts for key, w in part.named_parameters() if f".{adapter}." in f"{key}."]


def _check_used(given: Mapping[str, Any], loaded: Iterable[Tensor], name: str) -> None:
    """Compares the tensors of a file with those that were loaded.

    Raises:
        GuidedError: A tensor was not loaded.
    """
    left = Counter((weight.dtype, _digest(weight)) for weight in loaded)
    check_finite({key: w for key, w in given.items() if isinstance(w, Tensor)}, Path(name))
    tensors = {key: w for key, w in given.items() if isinstance(w, Tensor) and not key.endswith("alpha")}
    unused = []
    for key, weight in tensors.items():
        cast = [(dtype, _digest(weight.to(dtype))) for dtype in dict.fromkeys(dtype for dtype, _ in left)]
        found = [entry for entry in cast if left[entry]]
        left.subtract(found[:1])
        unused += [] if found else [key]
    if unused or not tensors:
        few = f"{len(unused)} of {len(tensors)} tensors fit no layer of its networks: {shown(unused[:3])}"
        raise GuidedError(f"cannot load the LoRA weights {shown(name)}: {few if tensors else 'it holds none'}")


def _digest(weight: Tensor) -> str:
    entries = weight.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(entries.numpy().tobytes()).hexdigest()


def lora_reader(pipeline: Any, net: Any) -> Callable[[Mapping[str, Tensor]], Any] | None:
    """What reads LoRA weights in any layout that a pipeline knows, as :class:`guided.core.denoiser.Network` takes it.

    Args:
        pipeline: A pipeline of diffusers.
        net: Its network.

    Returns:
        None where the pipeline knows of no LoRA weights.
    """
    read = getattr(type(pipeline), "lora_state_dict", None)
    if read is None:
        return None
    takes = inspect.signature(read).parameters

    def reader(given: Mapping[str, Tensor]) -> Any:
        options = {"unet_config": net.config} if "unet_config" in takes else {}
        found = read(dict(given), **options, **({"return_alphas": True} if "return_alphas" in takes else {}))
        weights, alphas = found[:2] if isinstance(found, tuple) else (found, None)
        if any(".lora_A." in key for key in weights):
            return weights, alphas
        to_peft: Any = importlib.import_module("diffusers.utils").convert_unet_state_dict_to_peft
        return to_peft(weights), alphas and to_peft(alphas)

    return reader
