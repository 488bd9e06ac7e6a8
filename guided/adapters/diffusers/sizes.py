"""Sizes of images and videos, in pixels and in latents."""

__all__ = ["Size", "latent_size"]

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guided.errors import GuidedError, check_number

if TYPE_CHECKING:
    from guided.adapters.diffusers.families import Family


@dataclass(frozen=True)
class Size:
    """Height and width in pixels, and frames; None for the model's own.

    Raises:
        ValueError: A number is no whole number, or below 1.
    """

    height: int | None = None
    width: int | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames"):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value, int, least=1)


@dataclass(frozen=True)
class Whole:
    """A size with nothing left open."""

    height: int
    width: int
    frames: int


def latent_size(family: "Family", size: Size) -> tuple[Whole, tuple[int, ...]]:
    """The size with the model's own where nothing is said, and the shape of its latents.

    Raises:
        ValueError: The size is no multiple of what the model needs, or an image has frames.
    """
    pipeline, video = family.pipeline, family.kind == "videos"
    factor = _factor(pipeline, video)
    own = (family.own_size,) * 2 if isinstance(family.own_size, int) else family.own_size
    height, width = size.height or own[0] * factor, size.width or own[1] * factor
    for name, side in (("height", height), ("width", width)):
        if side % (factor * family.patch):
            raise GuidedError(f"{name} is {side}; it must be a multiple of {factor * family.patch}")
    _check_channels(family)
    latents = (family.channels, height // factor, width // factor)
    if not video:
        if size.frames is not None:
            raise GuidedError(f"frames is {size.frames}, but {type(pipeline).__name__} makes images")
        return Whole(height, width, 1), latents
    step = pipeline.vae_scale_factor_temporal
    frames = size.frames or (family.net.config.sample_frames - 1) // step * step + 1
    if (frames - 1) % step:
        raise GuidedError(f"frames is {frames}; it must be a multiple of {step}, plus 1")
    count, patch = (frames - 1) // step + 1, family.net.config.patch_size_t or 1
    if count % patch:
        raise GuidedError(f"frames is {frames}, {count} frames of latents; those must be a multiple of {patch}")
    return Whole(height, width, frames), (count, *latents)


def _factor(pipeline: Any, video: bool) -> int:
    """Pixels a side of a latent."""
    if getattr(pipeline, "vae", None) is None:
        return 1
    if video:
        return int(pipeline.vae_scale_factor_spatial)
    factor = getattr(pipeline, "vae_scale_factor", None)  # DiT's pipeline has none
    return int(factor or 2 ** (len(pipeline.vae.config.block_out_channels) - 1))


def _check_channels(family: "Family") -> None:
    vae = getattr(family.pipeline, "vae", None)
    latent = vae.config.latent_channels if vae is not None else family.channels
    if latent != family.channels:
        raise GuidedError(
            f"the network takes {family.channels} channels and a latent has {latent}: networks that are also shown an "
            "image (inpainting, editing) are not supported; give the plain one with `image` and `mask`"
        )
