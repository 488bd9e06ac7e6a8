"""Sizes of images and videos, in pixels and in latents."""

__all__ = ["Frames", "Latents", "Size", "Whole", "latent_size"]

from dataclasses import dataclass

from guided.core.memory import check_memory
from guided.errors import GuidedError, check_number


@dataclass(frozen=True)
class Size:
    """Height and width in pixels, and frames; None for the model's own.

    Raises:
        GuidedError: A number is not a whole number, or below 1.
    """

    height: int | None = None
    width: int | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check_number(name, value, int, least=1))


@dataclass(frozen=True)
class Whole:
    """A size with all numbers known."""

    height: int
    width: int
    frames: int


@dataclass(frozen=True)
class Frames:
    """How a video's frames relate to its latents.

    Args:
        own: The number of frames that the network was trained for.
        step: Frames of a video for each frame of latents after the first.
        patch: Frames of latents that the network takes together.
    """

    own: int
    step: int
    patch: int


@dataclass(frozen=True)
class Latents:
    """The latents that a network takes.

    Args:
        channels: The number of channels that it takes.
        given: The number of channels of a latent.
        own: Height and width of the latents that it was trained for.
        factor: Pixels a side of a latent.
        patch: Latents a side that it takes together.
        frames: The frames of a video; None for images.
    """

    channels: int
    given: int
    own: tuple[int, int]
    factor: int
    patch: int
    frames: Frames | None = None


def latent_size(size: Size, latents: Latents, pipeline: str) -> tuple[Whole, tuple[int, ...]]:
    """The size with the model's own where none is given, and the shape of its latents.

    Args:
        size: The requested size.
        latents: The network's latents.
        pipeline: The pipeline's name, for messages.

    Raises:
        GuidedError: The size is no multiple of what the model needs, or an image has frames.
    """
    factor, multiple = latents.factor, latents.factor * latents.patch
    height, width = size.height or latents.own[0] * factor, size.width or latents.own[1] * factor
    for name, side in (("height", height), ("width", width)):
        if side % multiple:
            raise GuidedError(f"{name} is {side}; it must be a multiple of {multiple}")
    side, name = max((height, "height"), (width, "width"))
    check_memory(name, side, 4 * 3 * height * width * (size.frames or 1))  # pixels of one sample
    if latents.given != latents.channels:
        raise GuidedError(
            f"the network takes {latents.channels} channels and a latent has {latents.given}: networks that also "
            "take an image (inpainting, editing) are not supported; use the plain one with `image` and `mask`"
        )
    event = (latents.channels, height // factor, width // factor)
    if latents.frames is not None:
        frames, count = _frames(size.frames, latents.frames)
        return Whole(height, width, frames), (count, *event)
    if size.frames is not None:
        raise GuidedError(f"frames is {size.frames}, but {pipeline} makes images")
    return Whole(height, width, 1), event


def _frames(requested: int | None, known: Frames) -> tuple[int, int]:
    """The number of frames of a video, and of its latents."""
    frames = requested or (known.own - 1) // known.step * known.step + 1
    if (frames - 1) % known.step:
        raise GuidedError(f"frames is {frames}; it must be a multiple of {known.step}, plus 1")
    count = (frames - 1) // known.step + 1
    if count % known.patch:
        raise GuidedError(f"frames is {frames}, {count} frames of latents; those must be a multiple of {known.patch}")
    return frames, count
