"""How clean rows become samples, and samples rows."""

__all__ = ["Codec"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


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

    def decoder(self, preview: bool) -> Callable[[Tensor], Any]:
        """The decoder of look-aheads, or that of samples."""
        return self.preview if preview and self.preview is not None else self.decode
