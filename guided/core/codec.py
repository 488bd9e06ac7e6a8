"""How clean rows become samples and the other forms that rewards take, and samples rows."""

__all__ = ["VIEWS", "Codec"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from guided.core.editing import Editing, default_strength
from guided.errors import GuidedError

#: The forms in which a reward may take clean rows.
VIEWS = ("samples", "tokens", "pixels", "latents")
OTHER = 4  # the code of what is no nucleotide


@dataclass(frozen=True)
class Codec:
    """The border between rows, which the process moves, and samples, which a reward scores.

    Args:
        decode: Maps clean rows `(n, *event)` to `n` samples (SMILES, images, sequences, sounds).
        preview: A cheaper `decode` for look-aheads, such as a small decoder; None for the same one.
        encode: Maps one sample to its clean row `(*event)`; None where samples cannot be encoded.
        region: Maps a mask over a sample to where its row is free, with shape `(*event)` or one that broadcasts to it;
            None where there are no masks.
        modality: What the samples are, "molecules", "dna", "images", "videos", "audio" or "text"; "" if unknown.
        tokens: Maps clean rows to the codes of nucleotides, with shape `(n, L)`, int64, on their device: 0 to 3 for A,
            C, G and T or U, 4 for anything else, as N or a mask. None where samples are no nucleotides, or of another
            length than rows.
        pixels: Maps clean rows to the pixels of their images, with shape `(n, 3, H, W)`, uint8, on their device: those
            that `decode` would put into PIL images. None where samples are no images.
        preview_pixels: The same for `preview`.
        from_pixels: Maps pixels to samples, so that rows are decoded once for both; None where they do not follow.
        smooth_pixels: Maps clean rows to pixels in [0, 1] that are not rounded, with gradients; None where samples are
            no images.
        measures: Maps clean rows to further numbers about each, by name: columns of a run that its samples do not show.
            None where there are none.
    """

    decode: Callable[[Tensor], Any] = lambda x: x
    preview: Callable[[Tensor], Any] | None = None
    encode: Callable[[Any], Tensor] | None = None
    region: Callable[[Any], Tensor] | None = None
    modality: str = ""
    tokens: Callable[[Tensor], Tensor] | None = None
    pixels: Callable[[Tensor], Tensor] | None = None
    preview_pixels: Callable[[Tensor], Tensor] | None = None
    from_pixels: Callable[[Tensor], Any] | None = None
    measures: Callable[[Tensor], dict[str, list[float]]] | None = None
    smooth_pixels: Callable[[Tensor], Tensor] | None = None

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

    def view(self, name: str, preview: bool = False) -> Callable[[Tensor], Any] | None:
        """What makes one of `VIEWS` of clean rows; None where the model has none."""
        cheap = preview and self.preview is not None
        makers: dict[str, Callable[[Tensor], Any] | None] = {
            "samples": self.decoder(preview),
            "tokens": self.tokens,
            "pixels": self.preview_pixels if cheap else self.pixels,
            "latents": _as_they_are,
        }
        return makers[name]

    def relaxes(self, name: str) -> bool:
        """Whether the model has a view in real numbers, with gradients."""
        return {"tokens": self.tokens, "pixels": self.smooth_pixels, "latents": _as_they_are}.get(name) is not None

    def relaxed(self, name: str, rows: Tensor) -> Tensor:
        """A view of clean rows in real numbers, with gradients: pixels, probabilities of nucleotides, or the rows.

        Args:
            name: "tokens", "pixels" or "latents".
            rows: With shape `(n, *event)`; of tokens their probabilities, `(n, L, V)`.

        Raises:
            GuidedError: The model has no such view.
        """
        if name == "tokens" and self.tokens is not None:
            L, V = rows.shape[1:]
            codes = self.tokens(torch.arange(V, device=rows.device)[:, None].expand(V, L))
            return torch.einsum("nlv,vlc->nlc", rows, one_hot(codes, OTHER + 1)[..., :OTHER].to(rows))
        if name == "pixels" and self.smooth_pixels is not None:
            return self.smooth_pixels(rows)
        if name != "latents":
            raise GuidedError(f"the model has no {name} with gradients to give to a reward")
        return rows


def _as_they_are(rows: Tensor) -> Tensor:
    return rows
