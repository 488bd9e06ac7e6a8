"""Latents to images and back: the model's own decoder for samples, cheaper ones for look-aheads."""

__all__ = ["Decoder", "Encoder", "images", "region"]

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from guided.adapters.diffusers.sizes import Whole
from guided.adapters.images import as_mask, as_rgb
from guided.core.batching import Evaluator
from guided.errors import GuidedError
from guided.settings import torch_defaults


@dataclass(frozen=True)
class Decoder:
    """Clean rows `(n, *event)` to `n` PIL images, or lists of frames for videos.

    Args:
        vae: The network, `AutoencoderKL` or another of diffusers with `decode`; None where rows are pixels.
        evaluator: Micro-batches of rows.
        scale: The factor of a side, at most 1, by which rows are reduced before they are decoded.
        tiny: Whether the network takes latents as the denoiser knows them, as `AutoencoderTiny` does.
    """

    vae: Any
    evaluator: Evaluator
    scale: float = 1.0
    tiny: bool = False

    def __call__(self, x: Tensor) -> list[Any]:
        return images(self.pixels(x))

    @torch.no_grad()
    @torch_defaults()
    def pixels(self, x: Tensor) -> Tensor:
        """Clean rows to whole numbers from 0 to 255, on their device: `(n, 3, H, W)`, for videos `(n, F, 3, H, W)`.

        Raises:
            GuidedError: Pixels are not finite.
        """
        finite: list[Tensor] = []
        found = self.evaluator(lambda rows: self._pixels(x[rows], finite), len(x))
        if not torch.stack(finite).all():  # as bytes they would look like an image; asked once, as asking waits
            raise GuidedError(f"rows decode to pixels that are not finite (in {self._dtype(x)}); use dtype float32")
        return found

    def smooth(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] that are not rounded, with gradients; shapes are those of `pixels`, all rows at once."""
        y = (self._decoded(x).float() / 2 + 0.5).clamp(0, 1)
        return (y if y.shape[1] == 3 else y.expand(-1, 3, *y.shape[2:])).movedim(1, -3)

    def _decoded(self, x: Tensor) -> Tensor:
        """What the network makes of rows, from -1 to 1."""
        if self.scale < 1:
            x = self._smaller(x)
        return x if self.vae is None else cast("Tensor", self.vae.decode(self._unscaled(x), return_dict=False)[0])

    def _pixels(self, x: Tensor, finite: list[Tensor]) -> Tensor:
        """The pixels of a micro-batch; whether they are finite is added to a list."""
        y = self._decoded(x)
        finite.append(y.isfinite().all())
        y = (y.float() / 2 + 0.5).clamp(0, 1)
        y = y if y.shape[1] == 3 else y.expand(-1, 3, *y.shape[2:])  # grey
        return (y * 255).round().to(torch.uint8).movedim(1, -3)  # a video's frames come before its channels

    def _dtype(self, x: Tensor) -> torch.dtype:
        dtype: torch.dtype = x.dtype if self.vae is None else self.vae.dtype
        return dtype

    def _smaller(self, x: Tensor) -> Tensor:
        """The mean over areas, at least one latent a side."""
        sides = [max(1, round(side * self.scale)) for side in x.shape[-2:]]
        return F.interpolate(x.flatten(0, -4), size=sides, mode="area").view(*x.shape[:-2], *sides)

    def _unscaled(self, x: Tensor) -> Tensor:
        x = x.to(self.vae.dtype)
        if x.ndim == 5:
            x = rearrange(x, "n F C h w -> n C F h w")
        config = self.vae.config
        mean, std = config.get("latents_mean"), config.get("latents_std")
        factor = config.get("scaling_factor") or 1.0
        if mean is not None and std is not None and not self.tiny:
            shape = (1, -1, *[1] * (x.ndim - 2))
            return x * x.new_tensor(std).view(shape) / factor + x.new_tensor(mean).view(shape)
        shift = config.get("shift_factor") or 0.0
        return x / factor + (0.0 if self.tiny else shift)


@dataclass(frozen=True)
class Encoder:
    """An image, or its file, to its row `(*event)`: the mean of the encoder's distribution.

    Args:
        vae: The network; None where rows are pixels.
        size: The size of the model's images; others are resized to it.
        channels: The number of channels of a row of pixels.
        device: Where rows go.
    """

    vae: Any
    size: Whole
    channels: int
    device: torch.device

    @torch.no_grad()
    @torch_defaults()
    def __call__(self, image: Any) -> Tensor:
        resized = as_rgb(image).resize((self.size.width, self.size.height), Image.Resampling.LANCZOS)
        array = np.asarray(resized, dtype=np.float32)
        pixels = rearrange(torch.from_numpy(array) / 127.5 - 1, "H W C -> 1 C H W").to(self.device)
        if self.vae is None:
            return (pixels if self.channels == 3 else pixels.mean(1, keepdim=True))[0]
        encoded = self.vae.encode(pixels.to(self.vae.dtype))
        z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return self._scaled(z)[0].float()

    def _scaled(self, z: Tensor) -> Tensor:
        config = self.vae.config
        mean, std = config.get("latents_mean"), config.get("latents_std")
        factor = config.get("scaling_factor") or 1.0
        if mean is not None and std is not None:
            return (z - z.new_tensor(mean).view(1, -1, 1, 1)) * factor / z.new_tensor(std).view(1, -1, 1, 1)
        return (z - (config.get("shift_factor") or 0.0)) * factor


def images(pixels: Tensor) -> list[Any]:
    """Bytes `(n, 3, H, W)` on any device to `n` PIL images; `(n, F, 3, H, W)` to `n` lists of frames."""
    array = pixels.movedim(-3, -1).contiguous().cpu().numpy()
    if array.ndim == 5:
        return [[Image.fromarray(frame) for frame in video] for video in array]
    return [Image.fromarray(image) for image in array]


def region(mask: Any, sides: tuple[int, int], device: torch.device) -> Tensor:
    """Where a mask is white, as latents: True or False, with shape `(1, h, w)`.

    Raises:
        GuidedError: It is not an image, or the meaning of its pixels is ambiguous.
    """
    height, width = sides
    small = as_mask(mask).resize((width, height), Image.Resampling.NEAREST)
    return (torch.from_numpy(np.array(small)) > 127)[None].to(device)
