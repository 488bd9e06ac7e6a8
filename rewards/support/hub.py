"""Networks of images from the Hugging Face hub or a folder, and weight files; one line where they are not as expected.

Images are prepared as CLIP's authors do: the shorter side is resized to the network's size (bicubic), the middle is
cut out, and the channels are made standard with CLIP's means and deviations.

References:
    | Learning transferable visual models from natural language supervision
    | (Radford et al., ICML, 2021, https://arxiv.org/abs/2103.00020)
"""

__all__ = [
    "MEAN",
    "ROWS",
    "STD",
    "chain",
    "check_precision",
    "clip_pixels",
    "load_into",
    "placed",
    "pretrained",
    "read_state",
    "running",
    "version",
]

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from guided.errors import GuidedError
from guided.rewards.support.resize import resize
from guided.rewards.support.settings import device_of, in_precision

Net = TypeVar("Net", bound=nn.Module)
State: TypeAlias = dict[str, Tensor]

ROWS = 64  # images in one pass of a network
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
WEIGHTS = {"bfloat16": torch.bfloat16, "float16": torch.float16}  # of networks; in other precisions float32
_FOLDER = "a name on the Hugging Face hub, with network, or a folder with config.json and model.safetensors is accepted"


def check_precision(precision: str) -> torch.dtype:
    """The type of a network's weights for a precision (:mod:`guided.rewards.support.settings`).

    Raises:
        GuidedError: There is no such precision.
    """
    with in_precision(precision, torch.device("cpu")):
        pass
    return WEIGHTS.get(precision, torch.float32)


def running(precision: str, place: torch.device) -> AbstractContextManager[None]:
    """The context in which a network runs whose weights have the type for a precision: it is left to allow TF32."""
    return in_precision("tf32" if precision == "tf32" else "float32", place)


def placed(network: Net, place: torch.device) -> Net:
    """The network on a device; it stays there."""
    if place == torch.device("cuda"):  # which is not equal to the one of the number that it stands for
        place = torch.device("cuda", torch.cuda.current_device())
    if next(network.parameters()).device != place:
        network.to(place)
    return network


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


def load_into(network: nn.Module, state: Mapping[str, Tensor], what: str, precision: str = "float32") -> nn.Module:
    """The network with these weights, all of them, ready to be applied in a precision.

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
    return network.eval().requires_grad_(False).to(device_of(None), check_precision(precision))


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


def clip_pixels(images: Sequence[Image.Image] | Tensor, size: int, whole: bool = False) -> Tensor:
    """RGB images -> what CLIP's vision network reads, with shape `(m, 3, size, size)`, float32.

    Args:
        images: m images; or uint8 `(m, 3, H, W)`, and the result is on their device.
        size: The network's, in pixels.
        whole: The longer side is resized, and the rest is black, instead of cutting the middle out.
    """
    if isinstance(images, Tensor):
        height, width, pad = _square(images.shape[-2], images.shape[-1], size, whole)
        rows = nn.functional.pad(resize(images, height, width), pad)
    else:
        rows = torch.from_numpy(np.stack([np.asarray(_squared(image, size, whole)) for image in images])).permute(
            0, 3, 1, 2
        )
    mean, std = _standard(rows.device)
    return (rows.float() / 255 - mean) / std


@lru_cache(maxsize=8)
def _standard(place: torch.device) -> tuple[Tensor, Tensor]:
    """CLIP's means and deviations of the channels, with shape `(3, 1, 1)`."""
    return tuple(torch.tensor(part, dtype=torch.float32, device=place).view(3, 1, 1) for part in (MEAN, STD))  # type: ignore[return-value]


def _square(height: int, width: int, size: int, whole: bool) -> tuple[int, int, tuple[int, int, int, int]]:
    """Height and width after resizing, and what is added left, right, above and below; below 0 it is cut off."""
    sides = (height, width)
    if whole:
        height, width = (max(1, round(size * side / max(sides))) for side in sides)
        left, top = (size - width) // 2, (size - height) // 2
    else:
        height, width = (size * side // min(sides) for side in sides)
        left, top = -((width - size) // 2), -((height - size) // 2)
    return height, width, (left, size - width - left, top, size - height - top)


def _squared(image: Image.Image, size: int, whole: bool) -> Image.Image:
    height, width, (left, _, top, _) = _square(image.height, image.width, size, whole)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((-left, -top, size - left, size - top))  # black outside of it


def version(path: str) -> tuple[str, int, int]:
    """A file, and what changes when it is written again."""
    file = Path(path).expanduser()
    try:
        status = file.stat()
    except OSError:
        return str(file), 0, 0  # the reader says it
    return str(file.resolve()), status.st_mtime_ns, status.st_size
