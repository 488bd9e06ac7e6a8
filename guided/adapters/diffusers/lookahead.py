"""Decoders for look-aheads. A full decode is more than half of the cost of an image look-ahead, and a small decoder, or
a small image, is usually enough for a reward.

References:
    | TAESD, Tiny AutoEncoder for Stable Diffusion (Boer Bohan, 2023)
    | https://github.com/madebyollin/taesd
"""

__all__ = ["TINY", "preview"]

import re
from pathlib import Path
from typing import Any

import torch

from guided.adapters.diffusers.frozen import freeze
from guided.adapters.diffusers.pixels import Decoder
from guided.adapters.diffusers.quiet import quiet
from guided.checkpoints.torch_files import reason_of
from guided.core.batching import Evaluator
from guided.errors import GuidedError, shown

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
TINY = "vae_tiny"  # the folder of a small decoder, beside the pipeline's own parts

#: TAESD by the pipeline's class.
PUBLISHED = {
    "StableDiffusionPipeline": "madebyollin/taesd",
    "StableDiffusionImg2ImgPipeline": "madebyollin/taesd",
    "PixArtAlphaPipeline": "madebyollin/taesd",
    "PixArtSigmaPipeline": "madebyollin/taesdxl",
    "StableDiffusionXLPipeline": "madebyollin/taesdxl",
    "StableDiffusionXLImg2ImgPipeline": "madebyollin/taesdxl",
    "StableDiffusion3Pipeline": "madebyollin/taesd3",
    "StableDiffusion3Img2ImgPipeline": "madebyollin/taesd3",
    "FluxPipeline": "madebyollin/taef1",
    "FluxImg2ImgPipeline": "madebyollin/taef1",
}


def preview(
    lookahead: Any, pipeline: Any, folder: Path | None, evaluator: Evaluator, last: bool | None = None
) -> Decoder | None:
    """The decoder of look-aheads; None for the samples' own.

    Args:
        lookahead: "full" for the decoder of the samples; a number in (0, 1), the factor by which the sides of the
            latents are reduced before decoding; "tiny" for the small decoder beside the pipeline, or the published one
            of its family; the name or folder of an `AutoencoderTiny`; or such a network.
        pipeline: A pipeline of diffusers.
        folder: Where it was loaded from.
        evaluator: Micro-batches of rows.
        last: Whether its convolutions have channels last, as :func:`freeze` takes it.

    Raises:
        GuidedError: There is no such decoder, or its latents have another number of channels.
    """
    vae = getattr(pipeline, "vae", None)
    if getattr(lookahead, "shape", None) == ():  # a number from numpy or torch
        lookahead = lookahead.item()
    if isinstance(lookahead, bool) or not isinstance(lookahead, str | Path | int | float | torch.nn.Module | None):
        raise GuidedError(f"lookahead is {shown(lookahead)}; it must be 'full', 'tiny', a factor, or a name or folder")
    if lookahead in ("full", 1, None):
        return None
    if vae is None:
        raise GuidedError(f"lookahead is {lookahead!r}, but the model's rows are pixels: it must be 'full'")
    if isinstance(lookahead, int | float) and not isinstance(lookahead, bool):
        if not 0 < lookahead < 1:
            raise GuidedError(f"lookahead is {lookahead}; as a factor it must be above 0 and at most 1")
        return Decoder(vae, evaluator, scale=float(lookahead))
    tiny = lookahead if isinstance(lookahead, torch.nn.Module) else _read(str(lookahead), pipeline, folder)
    tiny = tiny.to(pipeline._execution_device)
    freeze(tiny, last)
    wanted, given = vae.config.latent_channels, getattr(getattr(tiny, "config", None), "latent_channels", None)
    if not hasattr(tiny, "decode") or given != wanted:
        raise GuidedError(f"the look-ahead's decoder takes {given} channels of latents; the model has {wanted}")
    return Decoder(tiny, evaluator, tiny=type(tiny).__name__ == "AutoencoderTiny")


def _read(lookahead: str, pipeline: Any, folder: Path | None) -> Any:
    import diffusers

    autoencoder: Any = diffusers.AutoencoderTiny
    place = lookahead
    if lookahead == "tiny":
        beside = folder / TINY if folder is not None else None
        place = str(beside) if beside is not None and beside.is_dir() else PUBLISHED.get(type(pipeline).__name__, "")
        if not place:
            raise GuidedError(f"{type(pipeline).__name__} has no small decoder; name the folder of one, or a factor")
    elif not Path(lookahead).is_dir() and not REPOSITORY.fullmatch(lookahead):
        raise GuidedError(f"lookahead is {lookahead!r}; it must be 'full', 'tiny', a factor, or a name or folder")
    try:
        with quiet():
            return autoencoder.from_pretrained(place, torch_dtype=pipeline.vae.dtype)
    except Exception as error:  # from the hub or the file, of any class
        first = reason_of(error).rstrip(".")
        hint = "" if Path(place).is_dir() else "; without a network, give a folder"
        raise GuidedError(f"cannot load the look-ahead's decoder {place!r}: {first}{hint}") from error
