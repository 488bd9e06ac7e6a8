"""Latents to samples by the last part of a pipeline's call; look-aheads with a small decoder, or on less of them."""

__all__ = ["Sounds", "TailDecoder", "shrunk"]

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from guided.adapters.diffusers.loops.probe import ROWS
from guided.adapters.diffusers.loops.tail import Tail
from guided.adapters.diffusers.pixels import images
from guided.core.batching import Evaluator
from guided.core.sound import Sound
from guided.errors import GuidedError, out_of_memory


class _Rows:
    """Rows through a last part; where it knows of its call's own number of rows only, as many at a time."""

    def __init__(self, tail: Tail, evaluator: Evaluator) -> None:
        self.tail, self.evaluator, self._fixed = tail, evaluator, False

    def __call__(self, x: Tensor) -> Tensor:
        return self.evaluator(lambda rows: self._some(x[rows]), len(x))

    def _some(self, x: Tensor) -> Tensor:
        if not self._fixed:
            try:
                found = _tensor(self.tail(x))
                if len(found) == len(x):
                    return found
            except Exception as error:  # of any class: its variables are those of another number of rows
                if out_of_memory(error) or len(x) == ROWS:
                    raise
            self._fixed = True
        filled = [torch.cat([some, some[-1:].expand(ROWS - len(some), *some.shape[1:])]) for some in x.split(ROWS)]
        return torch.cat([_tensor(self.tail(some)) for some in filled])[: len(x)]


def _tensor(found: Any) -> Tensor:
    """What a pipeline returned, as one tensor."""
    if isinstance(found, list | tuple):
        found = torch.stack([part if isinstance(part, Tensor) else torch.as_tensor(np.asarray(part)) for part in found])
    return found if isinstance(found, Tensor) else torch.as_tensor(np.asarray(found))


class TailDecoder:
    """Clean rows `(n, *event)` to `n` PIL images, or lists of frames for videos.

    Args:
        tail: The last part of the pipeline's call.
        evaluator: Micro-batches of rows.
    """

    def __init__(self, tail: Tail, evaluator: Evaluator) -> None:
        self._rows = _Rows(tail, evaluator)

    def __call__(self, x: Tensor) -> list[Any]:
        return images(self.pixels(x))

    def pixels(self, x: Tensor) -> Tensor:
        """Clean rows to whole numbers from 0 to 255: `(n, 3, H, W)`, for videos `(n, F, 3, H, W)`.

        Raises:
            GuidedError: Pixels are not finite.
        """
        y = self._rows(x)
        if not y.isfinite().all():
            raise GuidedError(f"rows decode to pixels that are not finite (in {y.dtype}); use dtype float32")
        if y.shape[-3] not in (1, 3) and y.shape[-1] in (1, 3):  # as numpy has them
            y = y.movedim(-1, -3)
        y = y if y.shape[-3] == 3 else y.expand(*y.shape[:-3], 3, *y.shape[-2:])
        return (y.float().clamp(0, 1) * 255).round().to(torch.uint8)


class Sounds:
    """Clean rows `(n, *event)` to `n` sounds, :class:`guided.core.sound.Sound` with shape `(channels, T)`.

    Args:
        tail: The last part of the pipeline's call.
        evaluator: Micro-batches of rows.

    Raises:
        GuidedError: No part of the pipeline says what its sampling rate is.
    """

    def __init__(self, tail: Tail, evaluator: Evaluator) -> None:
        self._rows, self.rate = _Rows(tail, evaluator), _rate(tail.pipeline)

    def __call__(self, x: Tensor) -> list[Sound]:
        """The sounds.

        Raises:
            GuidedError: Their amplitudes are not finite.
        """
        y = self._rows(x)
        if not y.isfinite().all():
            raise GuidedError(f"rows decode to sounds that are not finite (in {y.dtype}); use dtype float32")
        return [Sound(waveform, self.rate) for waveform in y.float().cpu().numpy()]


def _rate(pipeline: Any) -> int:
    """The sampling rate of what a pipeline decodes, by its vocoder's configuration or its autoencoder's."""
    for part in (getattr(pipeline, "vocoder", None), getattr(pipeline, "vae", None)):
        config = getattr(part, "config", None)
        for name in ("output_sampling_rate", "sampling_rate", "sample_rate"):
            found = getattr(config, name, None)
            if isinstance(found, int) and found > 0:
                return found
    raise GuidedError(f"{type(pipeline).__name__} has no vocoder or vae with a sampling_rate in its configuration")


def shrunk(vae: Any, scale: float) -> Any:
    """A copy of a decoder on the same weights, which takes latents made smaller by a factor a side."""
    found = copy.copy(vae)

    def decode(z: Tensor, *args: Any, **options: Any) -> Any:
        sides = [max(1, round(side * scale)) for side in z.shape[-2:]]
        small = F.interpolate(z.flatten(0, -4), size=sides, mode="area").view(*z.shape[:-2], *sides)
        return vae.decode(small, *args, **options)

    vars(found)["decode"] = decode
    return found
