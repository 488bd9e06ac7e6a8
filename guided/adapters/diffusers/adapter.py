"""A pipeline of a known family, as a `Diffusion`: its network and conditions, its scheduler's grid, its decoder."""

__all__ = ["wrap_family"]

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guided.adapters.diffusers.families import FAMILIES, Family
from guided.adapters.diffusers.frozen import freeze
from guided.adapters.diffusers.identity import fingerprint
from guided.adapters.diffusers.levels import Levels, grid
from guided.adapters.diffusers.lookahead import preview
from guided.adapters.diffusers.lora import lora_reader
from guided.adapters.diffusers.micro_batches import decoder_batches, network_batches
from guided.adapters.diffusers.pixels import Decoder, Encoder, images, region
from guided.adapters.diffusers.prediction import Prediction, target_of
from guided.adapters.diffusers.sizes import Size
from guided.adapters.diffusers.solvers import share_of
from guided.core.batching import Evaluator
from guided.core.codec import Codec
from guided.core.compiling import check_layout, compilation_of
from guided.core.denoiser import Network
from guided.core.diffusion import Diffusion
from guided.core.gaussian import Gaussian
from guided.core.process import check_steps
from guided.core.prompting import Prompting
from guided.errors import GuidedError, check_number
from guided.settings import torch_defaults


def wrap_family(
    pipeline: Any,
    *,
    eta: float | None = None,
    steps: int | None = None,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    lookahead: Any = "full",
    micro_batch: int | None = None,
    distilled: float | None = None,
    channels_last: bool | None = None,
    folder: Path | None = None,
    identity: str | None = None,
) -> Diffusion:
    """A pipeline as a model. Its modules are shared, frozen and put into evaluation mode.

    Args:
        pipeline: A `DiffusionPipeline` of a class in `FAMILIES`, on its device.
        eta: The share of fresh noise of a step, from 0 (DDIM, or a flow's Euler steps) to 1 (ancestral); None for 1,
            with a warning where the scheduler's own steps are of another kind.
        steps: The number of steps `K`; None for the pipeline's default.
        height: In pixels; None for the pipeline's own, as `width`, and as `frames` for videos.
        width: In pixels.
        frames: The number of frames of a video.
        lookahead: How look-aheads are decoded, as :func:`guided.adapters.diffusers.lookahead.preview` takes it.
        micro_batch: Rows that the network and the decoder take at a time; halved when memory runs out. None for a
            number that fits the rows and the device (:mod:`guided.adapters.diffusers.micro_batches`).
        distilled: The guidance that a distilled network (Flux) takes as an input; None for 3.5.
        channels_last: Whether convolutions have their channels last in memory; None for on a CPU and in half precision.
        folder: Where the pipeline was loaded from, to find a small decoder beside it.
        identity: The digest of the pipeline's weights; None to compute it.

    Raises:
        GuidedError: The class is unknown, the scheduler has no usable grid, or an option is out of range.
    """
    name = type(pipeline).__name__
    if name not in FAMILIES:
        raise GuidedError(f"{name} is not a pipeline that is supported; it is one of {', '.join(sorted(FAMILIES))}")
    layout = check_layout(channels_last)
    family = FAMILIES[name](pipeline, Size(height, width, frames))
    if distilled is not None:
        family.set_distilled(check_number("distilled", distilled, float))
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            freeze(part, layout)
    levels = Levels.of(pipeline.scheduler)
    eta = share_of(eta, pipeline.scheduler)
    process = _process(family, levels, eta, check_steps(family.steps if steps is None else steps))
    vae = _autoencoder(pipeline, family.upcasts)
    decoding = decoder_batches(family.event, micro_batch, family.device)
    cheap = preview(lookahead, pipeline, folder, decoding, layout)
    identity = identity or fingerprint(pipeline.components)
    denoiser = _denoiser(family, levels, process)
    return Diffusion(
        denoiser,
        process,
        _codec(family, vae, cheap, decoding),
        Prompting(
            Condition(family.encode) if family.conditional else None,
            unconditional=None,
            guidance=family.guidance,
            examples=_examples(folder),
        ),
        _network(family, denoiser),
        name=name,
        identity=identity if cheap is None else fingerprint({"lookahead": cheap.vae}, identity),
        evaluator=network_batches(family.event, micro_batch, family.device, compilation_of(family.net)),
    )


def _codec(family: Family, vae: Any, cheap: Decoder | None, evaluator: Evaluator) -> Codec:
    if family.modality == "videos":
        return Codec(Decoder(vae, evaluator), cheap, modality=family.modality)
    decoder = Decoder(vae, evaluator)
    return Codec(
        decoder,
        cheap,
        Encoder(vae, family.size, family.channels, family.device),
        lambda mask: region(mask, family.sides, family.device),
        family.modality,
        pixels=decoder.pixels,
        preview_pixels=None if cheap is None else cheap.pixels,
        from_pixels=images,
        smooth_pixels=(cheap or decoder).smooth,
    )


def _process(family: Family, levels: Levels, eta: float, K: int) -> Gaussian:
    scheduler = family.pipeline.scheduler
    if scheduler.config.get("thresholding", False):
        raise GuidedError(f"{type(scheduler).__name__} with dynamic thresholding is not supported; turn it off")
    of = grid(scheduler, levels, family.timing)
    clip = scheduler.config.get("clip_sample_range", 1.0) if scheduler.config.get("clip_sample", False) else None
    trained = None if levels.ratios is None else levels.trained  # a flow's grid has the shift that it was trained with
    return Gaussian(family.event, *of(K), eta=eta, grid=of, clip=clip, trained=trained)


def _denoiser(family: Family, levels: Levels, process: Gaussian) -> Prediction:
    target = target_of(family.pipeline.scheduler, levels)
    if target == "epsilon" and process.alphas[0] < 1e-3:  # Euler's is 2^-12 instead of 0
        raise GuidedError(
            "the network predicts the noise, and the scheduler's first level is nothing but noise: "
            "the clean mean cannot be computed from it (rescale_betas_zero_snr is for v_prediction)"
        )
    return Prediction(family, levels, target)


def _network(family: Family, denoiser: Prediction) -> Network:
    def around(net: torch.nn.Module) -> Prediction:
        return replace(denoiser, network=family.on(net))

    return Network(family.net, around, family.component, lora_reader(family.pipeline, family.net))


def _examples(folder: Path | None) -> list[str]:
    """The example prompts in a pipeline's folder, one on each line."""
    file = None if folder is None else folder / "prompts.txt"
    return [] if file is None or not file.is_file() else file.read_text(encoding="utf-8").splitlines()


class Condition:
    """Prompts to conditions, with shape `(n, *)` each; equal prompts are encoded once.

    Args:
        encode: The family's.
    """

    def __init__(self, encode: Callable[[Sequence[str | None]], dict[str, Tensor]]) -> None:
        self._encode = encode

    @torch.no_grad()
    @torch_defaults()
    def __call__(self, prompts: Sequence[str | None]) -> dict[str, Tensor]:
        different = list(dict.fromkeys(prompts))
        # One by one: in one batch the last digits of a prompt would depend on the others.
        parts = [self._encode([prompt]) for prompt in different]
        index = torch.tensor([different.index(prompt) for prompt in prompts], device="cpu")
        return {name: torch.cat([part[name] for part in parts])[index.to(parts[0][name].device)] for name in parts[0]}


def _autoencoder(pipeline: Any, upcasts: bool) -> Any:
    """The pipeline's autoencoder, in the pipeline's precision; None where rows are pixels.

    Args:
        pipeline: The pipeline.
        upcasts: Whether the autoencoder of its family goes to float32 from float16 where its configuration says so.
            That alone does not tell: `force_upcast` is true by default, for Stable Diffusion 1.5 too.
    """
    vae = getattr(pipeline, "vae", None)
    if vae is not None and upcasts and vae.dtype == torch.float16 and vae.config.get("force_upcast", False):
        vae.to(dtype=torch.float32)
    return vae
