"""Networks of images from the Hugging Face hub or a folder, and weight files; one line where they are not as expected.

Images are prepared as CLIP's authors do: the shorter side is resized to the network's size (bicubic), the middle is
cut out, and the channels are made standard with CLIP's means and deviations.

References:
    | Learning transferable visual models from natural language supervision
    | (Radford et al., ICML, 2021, https://arxiv.org/abs/2103.00020)
"""

__all__ = ["MEAN", "ROWS", "STD", "chain", "clip_pixels", "device", "load_into", "pretrained", "read_state", "version"]

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from guided.errors import GuidedError

State: TypeAlias = dict[str, Tensor]

ROWS = 64  # images in one pass of a network
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_FOLDER = "a name on the Hugging Face hub, with network, or a folder with config.json and model.safetensors is accepted"


def device() -> str:
    """Where these networks run: on the GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def pretrained(kind: str, name: str, what: str, **options: Any) -> Any:
    """`transformers.KIND.from_pretrained(name)`.

    Args:
        kind: A class of transformers.
        name: A name on the hub, or a folder.
        what: What it should be, for the message.
        options: What `from_pretrained` takes besides.

    Raises:
        GuidedError: There is no such thing, or it cannot be read.
        ImportError: transformers is not installed.
    """
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise ImportError(f"{what} needs transformers: pip install guided ({error})") from error
    folder = Path(name).expanduser()
    try:
        return getattr(transformers, kind).from_pretrained(str(folder) if folder.is_dir() else name, **options)
    except ImportError:
        raise
    except Exception as error:  # the hub, its cache and the readers of files each have their own
        said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise GuidedError(f"cannot load {what} {name!r}: {said[:200].rstrip('.')}; {_FOLDER}") from None


def read_state(path: str, what: str) -> State:
    """The tensors of a weight file, `.safetensors` or torch's, in float32 on the CPU; nothing else is unpickled.

    Raises:
        GuidedError: It is no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise GuidedError(f"{what}: there is no file {path!r}")
    try:
        if file.suffix == ".safetensors":
            state = import_module("safetensors.torch").load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise GuidedError(f"{what}: {path!r} is no file of weights ({said[:200]})") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise GuidedError(f"{what}: {path!r} has no table of tensors, or something besides")
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def load_into(network: nn.Module, state: Mapping[str, Tensor], what: str) -> nn.Module:
    """The network with these weights, all of them, ready to be applied.

    Raises:
        GuidedError: Names or shapes are others.
    """
    own = {name: value.shape for name, value in network.state_dict().items()}
    given = {name: value.shape for name, value in state.items()}
    for said, names in [
        ("has no", own.keys() - given.keys()),
        ("has an unknown", given.keys() - own.keys()),
        ("has another shape of", {name for name in own.keys() & given.keys() if own[name] != given[name]}),
    ]:
        if names:
            raise GuidedError(f"{what}: the file {said} {min(names)!r}, {len(names)} such in all")
    network.load_state_dict(state)
    return network.eval().requires_grad_(False).to(device())


def chain(state: Mapping[str, Tensor], places: Sequence[str], what: str) -> nn.Sequential:
    """Linear layers one after the other, without anything in between, ending in one number.

    Raises:
        GuidedError: A layer is missing, or does not fit the one before.
    """
    names = [f"{place}{kind}" for place in places for kind in ("weight", "bias")]
    if set(names) != state.keys() or any(state[name].ndim != 2 for name in names[::2]):
        raise GuidedError(f"{what}: linear layers {', '.join(names)} are accepted, given {', '.join(list(state)[:12])}")
    layers = [nn.Linear(state[name].shape[1], state[name].shape[0]) for name in names[::2]]
    if [layer.out_features for layer in layers] != [layer.in_features for layer in layers[1:]] + [1]:
        raise GuidedError(f"{what}: one linear layer does not fit the next, or the last has more than one output")
    network = nn.Sequential(*layers)
    load_into(network, dict(zip(network.state_dict(), map(state.__getitem__, names), strict=True)), what)
    return network


def clip_pixels(images: Sequence[Image.Image], size: int, whole: bool = False) -> Tensor:
    """RGB images -> what CLIP's vision network reads, with shape `(m, 3, size, size)`, float32.

    Args:
        images: m images.
        size: The network's, in pixels.
        whole: The longer side is resized, and the rest is black, instead of cutting the middle out.
    """
    values = np.stack([np.asarray(_squared(image, size, whole), dtype=np.float32) for image in images]) / 255
    standard = (values - np.array(MEAN, dtype=np.float32)) / np.array(STD, dtype=np.float32)
    return torch.from_numpy(standard).permute(0, 3, 1, 2).contiguous()


def _squared(image: Image.Image, size: int, whole: bool) -> Image.Image:
    side = max(image.size) if whole else min(image.size)
    if whole:
        width, height = (max(1, round(size * length / side)) for length in image.size)
        left, top = -((size - width) // 2), -((size - height) // 2)
    else:
        width, height = (size * length // side for length in image.size)
        left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    return image.crop((left, top, left + size, top + size))  # black outside of it


def version(path: str) -> tuple[str, int, int]:
    """A file, and what changes when it is written again."""
    file = Path(path).expanduser()
    try:
        status = file.stat()
    except OSError:
        return str(file), 0, 0  # the reader says it
    return str(file.resolve()), status.st_mtime_ns, status.st_size
