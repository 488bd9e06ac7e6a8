"""How clean rows become samples, and samples rows."""

__all__ = ["Codec"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from guided.core.editing import Editing, default_strength
from guided.errors import GuidedError


@dataclass(frozen=True)
class Codec:
    """The border between rows, which the process moves, and samples, which a reward scores.

    Args:
        decode: Maps clean rows `(n, *event)` to `n` samples (SMILES, images, sequences).
        preview: A cheaper `decode` for look-aheads, such as a small decoder; None for the same one.
        encode: Maps one sample to its clean row `(*event)`; None where samples cannot be encoded.
        region: Maps a mask over a sample to where its row is free, with shape `(*event)` or one that broadcasts to it;
            None where there are no masks.
        modality: What the samples are, "molecules", "dna", "images" or "videos"; "" if unknown.
    """

    decode: Callable[[Tensor], Any] = lambda x: x
    preview: Callable[[Tensor], Any] | None = None
    encode: Callable[[Any], Tensor] | None = None
    region: Callable[[Any], Tensor] | None = None
    modality: str = ""

    def editing(self, model: str, sample: Any, strength: float | None, mask: Any) -> Editing:
        """Where requests that start from a sample begin, and what they keep of it.

        The arguments are those of :meth:`guided.core.diffusion.Diffusion.edited`, after the model's name, which is for
        messages.

        Raises:
            GuidedError: Samples cannot be encoded, there are no masks, or the strength is out of range.
        """
        if self.encode is None:
            raise GuidedError(f"{model} cannot start from a sample: only models of images or videos can")
        if mask is not None and self.region is None:
            raise GuidedError(f"{model} has no masks")
        free = None if mask is None or self.region is None else self.region(mask)[None]
        strength = default_strength(mask is not None) if strength is None else strength
        return Editing(self.encode(sample)[None], strength, free)

    def decoder(self, preview: bool) -> Callable[[Tensor], Any]:
        """The decoder of look-aheads, or that of samples."""
        return self.preview if preview and self.preview is not None else self.decode
