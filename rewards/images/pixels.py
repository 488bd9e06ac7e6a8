"""What the rewards of images read: samples as models decode them, turned into RGB images, and back to one score each.

A sample is an image or a video. An image is a `PIL.Image`; an array `(H, W, 3)`; or a tensor `(3, H, W)` on any
device; arrays and tensors hold uint8, or floats in [0, 1]. A video is a list of images, or an array or a tensor with
an axis of frames in front, and it scores the mean over its frames. A batch is a list of samples, or an array or a
tensor with an axis of samples in front. Sizes may differ within a list.

Everything becomes 8-bit RGB: what is scored is the image that would be saved.

A batch that is a tensor of uint8, `(n, 3, H, W)` or for videos `(n, F, 3, H, W)`, stays on its device where a reward
can work there, and so do the scores, with shape `(n,)`.

Letters: n samples, m images in all, height H, width W.
"""

__all__ = [
    "Frames",
    "Images",
    "Prompts",
    "Scores",
    "frames",
    "mean_over_frames",
    "per_image",
    "per_pixels",
    "prompts_of",
]

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from guided.errors import GuidedError, RewardError
from guided.rewards.support.parts import Parts

Images: TypeAlias = Any  # n samples, in one of the forms above
Prompts: TypeAlias = "Sequence[str] | None"
Scores: TypeAlias = NDArray[np.float64] | Tensor  # (n,): a tensor where the samples are one that stays on its device

_ACCEPTED = (
    "an image is a PIL image, an array (H, W, 3) or a tensor (3, H, W), with uint8 or floats in [0, 1]; a video is a "
    "list of images, or an array or a tensor with an axis more"
)
_DEEP = ("I", "F")  # PIL's modes of more than 8 bits: converting clips them to white
_AT_ONCE = 2**23  # pixels
_SLACK = 0.5 / 255  # beyond [0, 1], as much as rounding to 8 bits moves a value


class Frames(NamedTuple):
    """The images of n samples.

    Attributes:
        images: m images, RGB: PIL images, or a tensor `(m, 3, H, W)` of uint8.
        owner: the sample that each image belongs to, with shape `(m,)`, ascending.
        samples: n.
    """

    images: Any
    owner: NDArray[np.int64]
    samples: int


def frames(samples: Images, tensors: bool = False) -> Frames:
    """The images of a batch of n samples.

    Args:
        samples: The batch.
        tensors: Whether a tensor of uint8 stays one.

    Raises:
        ValueError: A sample has another type, shape, or range.
    """
    if isinstance(samples, Image.Image | str) or getattr(samples, "ndim", 4) not in (4, 5):
        raise GuidedError(
            f"a batch of images is a list of samples, or an array or a tensor of them, given {_say(samples)}"
        )
    if tensors and isinstance(samples, Tensor) and samples.dtype == torch.uint8:
        if samples.shape[-3] != 3 or 0 in samples.shape[1:]:
            raise GuidedError(f"{_ACCEPTED}; given {_say(samples)}")
        n, each = len(samples), samples.shape[1] if samples.ndim == 5 else 1
        return Frames(samples.detach().reshape(-1, *samples.shape[-3:]), np.repeat(np.arange(n), each), n)
    images = [_images(sample) for sample in samples]
    counts = [len(those) for those in images]
    return Frames(
        [image for those in images for image in those], np.repeat(np.arange(len(counts)), counts), len(counts)
    )


def mean_over_frames(batch: Frames, scores: Any) -> Scores:
    """Scores `(m,)` of images -> `(n,)` of samples, on the device of the images if those are a tensor."""
    if isinstance(batch.images, Tensor):
        return scores.view(batch.samples, -1).mean(dim=1) if len(scores) > batch.samples else scores
    if not batch.samples:
        return np.zeros(0)
    scores = scores.cpu() if isinstance(scores, Tensor) else scores
    total = np.bincount(batch.owner, np.asarray(scores, dtype=np.float64), minlength=batch.samples)
    return total / np.bincount(batch.owner, minlength=batch.samples)


def per_image(samples: Images, score: Callable[[Image.Image], float]) -> Scores:
    """Scores `(n,)` by a function of one image."""
    batch = frames(samples)
    return mean_over_frames(batch, [score(image) for image in batch.images])


def per_pixels(samples: Images, score: Callable[[Tensor], Tensor]) -> Scores:
    """Scores `(n,)` by a function of uint8 `(m, 3, H, W)` that gives `(m,)`; images of a list come one by one.

    A tensor in [0, 1] that asks for gradients keeps them; the function is given its numbers from 0 to 255.
    """
    if isinstance(samples, Tensor) and samples.requires_grad:
        scores = score(255 * samples.reshape(-1, *samples.shape[-3:]))
        return scores.view(len(samples), -1).mean(dim=1)
    batch = frames(samples, tensors=True)
    if not isinstance(batch.images, Tensor):
        return mean_over_frames(batch, [float(score(_tensor(image))) for image in batch.images])
    if not batch.samples:
        return torch.zeros(0, device=batch.images.device)
    parts = Parts(max(1, _AT_ONCE // batch.images[0, 0].numel()))
    return mean_over_frames(batch, parts(lambda rows: score(batch.images[rows]), len(batch.images)))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


def prompts_of(batch: Frames, prompts: Prompts) -> list[str]:
    """The prompt of each of the m images.

    Raises:
        RewardError: There are no prompts.
    """
    if prompts is None:
        raise RewardError("judges images by their prompts, and there are none: give the run prompts")
    if len(prompts) != batch.samples:
        raise GuidedError(f"there are {len(prompts)} prompts for {batch.samples} samples; give one for each")
    return [prompts[i] for i in batch.owner.tolist()]


def _images(sample: Any) -> list[Image.Image]:
    """The images of one sample, at least one."""
    if isinstance(sample, Image.Image):
        return [_rgb(sample)]
    if isinstance(sample, list | tuple) and sample:
        return [image for part in sample for image in _images(part)]
    if isinstance(sample, torch.Tensor) and sample.ndim in (3, 4):
        values = sample.detach().cpu().movedim(-3, -1)
        sample = (values.float() if values.is_floating_point() else values).numpy()  # numpy has no bfloat16
    if isinstance(sample, np.ndarray) and sample.ndim in (3, 4):
        return [Image.fromarray(_bytes(image)) for image in (sample if sample.ndim == 4 else sample[None])]
    raise GuidedError(f"{_ACCEPTED}; given {_say(sample)}")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.split(";")[0] in _DEEP or 0 in image.size:
        raise GuidedError(f"a PIL image has 8 bits and at least one pixel, given mode {image.mode}, size {image.size}")
    return image if image.mode == "RGB" else image.convert("RGB")


def _bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An array of one of the accepted types and ranges as uint8, `(H, W, 3)`."""
    if image.shape[-1] != 3 or 0 in image.shape:
        raise GuidedError(f"{_ACCEPTED}; given {_say(image)}")
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    if not np.issubdtype(image.dtype, np.floating):
        raise GuidedError(f"{_ACCEPTED}; given {image.dtype}")
    low, high = image.min(), image.max()
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # nan is in no range
        raise GuidedError(f"{_ACCEPTED}; given floats from {low:g} to {high:g}")
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8)


def _say(sample: Any) -> str:
    shape = getattr(sample, "shape", None)
    return f"{type(sample).__name__} of shape {tuple(shape)}" if shape is not None else type(sample).__name__
