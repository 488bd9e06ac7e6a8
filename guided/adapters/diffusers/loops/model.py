"""Any pipeline that denoises through a scheduler, as a `Diffusion`: its own loop is the denoiser."""

__all__ = ["wrap_loop"]

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guided.adapters.diffusers.frozen import freeze
from guided.adapters.diffusers.identity import digest_of_values, fingerprint
from guided.adapters.diffusers.levels import Levels
from guided.adapters.diffusers.lookahead import preview
from guided.adapters.diffusers.loops.asked import Asked, Looped, Table
from guided.adapters.diffusers.loops.call import IP_ADAPTER, Call, Request, adapted
from guided.adapters.diffusers.loops.decoding import Sounds, TailDecoder, shrunk
from guided.adapters.diffusers.loops.probe import planned, probed
from guided.adapters.diffusers.loops.process import Known, begun, process_of
from guided.adapters.diffusers.loops.scheduler import Refused
from guided.adapters.diffusers.loops.tail import Tail
from guided.adapters.diffusers.lora import lora_reader
from guided.adapters.diffusers.micro_batches import decoder_batches, network_batches
from guided.adapters.diffusers.pixels import images
from guided.adapters.diffusers.prediction import target_of
from guided.adapters.diffusers.sizes import Size
from guided.adapters.diffusers.solvers import share_of
from guided.core.batching import Evaluator
from guided.core.codec import Codec
from guided.core.denoiser import Network
from guided.core.diffusion import Diffusion
from guided.core.guidance import Conditions, Guidance
from guided.core.process import check_steps
from guided.core.prompting import Prompting
from guided.core.requests import Requests
from guided.errors import GuidedError, check_number, kind_of
from guided.storage import digest_of


def wrap_loop(
    pipeline: Any,
    *,
    eta: float | None = None,
    steps: int | None = None,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    lookahead: Any = "full",
    micro_batch: int | None = None,
    channels_last: bool | None = None,
    pipe_args: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    identity: str | None = None,
) -> Diffusion:
    """A pipeline as a model, by its own loop. Its modules are shared, frozen and put into evaluation mode.

    A few turns of the loop are run, to see what it needs and whether it can be a denoiser.

    Args:
        pipeline: A `DiffusionPipeline`, on its device.
        eta: The share of fresh noise of a step, from 0 (DDIM, or a flow's Euler steps) to 1 (ancestral); None for 1,
            with a warning where the scheduler's own steps are of another kind.
        steps: The number of steps `K`; None for the pipeline's default.
        height: In pixels; None for the pipeline's own, as `width`, and as `frames` for videos.
        width: In pixels.
        frames: The number of frames of a video.
        lookahead: How look-aheads are decoded, as :func:`guided.adapters.diffusers.lookahead.preview` takes it.
        micro_batch: Rows that a loop and the decoder take at a time; halved when memory runs out.
        channels_last: Whether convolutions have their channels last in memory, as :func:`freeze` takes it.
        pipe_args: Arguments of the pipeline's call besides prompts, by name.
        folder: Where the pipeline was loaded from, to find a small decoder beside it.
        identity: The digest of the pipeline's weights; None to compute it.

    Raises:
        GuidedError: The loop cannot be a denoiser, with the reason; or an option is out of range.
    """
    name = type(pipeline).__name__
    if getattr(pipeline, "scheduler", None) is None or not hasattr(pipeline.scheduler, "step"):
        raise GuidedError(f"{name} cannot be a model: it has no scheduler whose steps could be ours")
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            freeze(part, channels_last)
    call = Call(pipeline, _arguments(pipeline, pipe_args, Size(height, width, frames)))
    K = call.default_steps if steps is None else check_steps(steps)
    call = replace(call, steps=K)
    levels = Levels.of(pipeline.scheduler)
    with _named(name):
        plan = planned(call, K)
        found = probed(call, Request(), plan)
    process = process_of(found.call, levels, found.event, share_of(eta, pipeline.scheduler), K)

    def at(steps: int) -> Known:
        own = process.with_steps(steps)
        return Known(levels, (own.alphas, own.sigmas, own.times))

    device = torch.device(pipeline._execution_device)
    codec, small = _codec(found.tail, lookahead, decoder_batches(found.event, micro_batch, device), folder)
    asked = Asked(found.call, network_batches(found.event, micro_batch, device))
    denoiser = Looped(asked, at(K), target_of(pipeline.scheduler, levels), at)
    identity = _identity(identity or fingerprint(pipeline.components), call.given)
    numbered = _Numbered(asked.table) if call.prompted or call.weight else None
    return Diffusion(
        denoiser,
        process,
        codec,
        LoopPrompting(numbered, unconditional=None, table=asked.table, weight=call.weight, given=tuple(call.given)),
        Network(call.network, denoiser.around, call.part, lora_reader(pipeline, call.network)),
        name=name,
        identity=identity if small is None else fingerprint({"lookahead": small}, identity),
        evaluator=Evaluator(None, device),
        requests=Requests(editing=begun(found, process)),
    )


def _arguments(pipeline: Any, pipe_args: Mapping[str, Any] | None, size: Size) -> dict[str, Any]:
    """The arguments by name, with those of the size."""
    if pipe_args is not None and not isinstance(pipe_args, Mapping):
        raise GuidedError(f"pipe_args is {kind_of(pipe_args)}; it must be a mapping from names to arguments")
    sizes = {"height": size.height, "width": size.width, "num_frames": size.frames}
    given, own = {name: value for name, value in sizes.items() if value is not None}, dict(pipe_args or {})
    for name in given.keys() & own.keys():
        raise GuidedError(f"{name} is given twice, as an option and by pipe_args")
    kind = type(pipeline).__name__
    for name in given.keys() - Call(pipeline).parameters.keys():
        raise GuidedError(f"{kind} takes no {name}")
    if adapted(pipeline) and not any(own.get(name) is not None for name in IP_ADAPTER):
        raise GuidedError(f"{kind} has an IP-Adapter, whose image is missing; give {IP_ADAPTER[0]} by pipe_args")
    return own | given


def _identity(identity: str, given: Mapping[str, Any]) -> str:
    """The digest of the weights, with that of the given arguments if there are any."""
    return identity if not given else digest_of(f"{identity} {digest_of_values(given)}")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Names the pipeline in the reason why it cannot be a model."""
    try:
        yield
    except Refused as error:
        raise GuidedError(f"{name} cannot be a model by its own loop: {error}") from error
    except (ValueError, TypeError) as error:  # of the pipeline, which checks its arguments
        if isinstance(error, GuidedError):
            raise
        raise GuidedError(f"{name}: {' '.join(str(error).split())}; arguments are given by pipe_args") from error


def _codec(tail: Tail, lookahead: Any, evaluator: Evaluator, folder: Path | None) -> tuple[Codec, Any]:
    """The codec of samples, and the network of a decoder for look-aheads, if there is one."""
    if tail.modality not in ("images", "videos"):
        if lookahead not in ("full", 1, None):
            raise GuidedError(f"lookahead is {lookahead!r}, but samples are no images or videos: it must be 'full'")
        return Codec(Sounds(tail, evaluator) if tail.modality else _bare, modality=tail.modality), None
    decoder, cheap = TailDecoder(tail, evaluator), preview(lookahead, tail.pipeline, folder, evaluator)
    codec = Codec(decoder, modality=tail.modality, pixels=decoder.pixels, from_pixels=images)
    if tail.modality == "videos":
        codec = replace(codec, pixels=None, from_pixels=None)
    if cheap is None:
        return codec, None
    vae = cheap.vae if cheap.tiny else shrunk(cheap.vae, cheap.scale)
    small = TailDecoder(tail.with_decoder(vae), evaluator)
    pixels = small.pixels if tail.modality == "images" else None
    return replace(codec, preview=small, preview_pixels=pixels), cheap.vae


def _bare(x: Tensor) -> Tensor:
    """Rows as they are, where a pipeline has no samples of a known kind."""
    return x


@dataclass(frozen=True)
class _Numbered:
    """Prompts to the numbers of their requests.

    Args:
        table: The requests.
        guidance: The weight of the pipeline's own guidance; None for its default.
    """

    table: Table
    guidance: float | None = None

    def __call__(self, prompts: Sequence[str | None]) -> dict[str, Tensor]:
        return self.table.condition([Request(prompt, guidance=self.guidance) for prompt in prompts])


@dataclass(frozen=True)
class LoopPrompting(Prompting):
    """Prompts and guidance that the pipeline's call gets; with a negative checkpoint or a guider, guidance is ours.

    Args:
        table: The requests.
        weight: The pipeline's argument for the weight of guidance; None where it has none.
        given: The names of the arguments that the call is given anyway.
    """

    table: Table = field(default_factory=Table)
    weight: str | None = None
    given: tuple[str, ...] = ()

    def resolve(
        self,
        prompts: Sequence[str | None],
        scale: float | None = None,
        negative: Sequence[str | None] | None = None,
        rescale: float = 0.0,
    ) -> tuple[Conditions, Guidance | None]:
        self._check_once(scale, rescale)
        if self.negative is not None or self.guider is not None:
            plain = Prompting(_Numbered(self.table, 1.0), self.unconditional, self.guidance, self.negative)
            plain = replace(plain, guider=self.guider)
            return plain.resolve(prompts, scale, negative, rescale)
        scale = None if scale is None else check_number("guidance", scale, float)
        pairs = zip(prompts, [None] * len(prompts) if negative is None else negative, strict=True)
        return Conditions(self.table.condition([Request(*pair, scale, rescale) for pair in pairs])), None

    def _check_once(self, scale: float | None, rescale: float) -> None:
        """Raises GuidedError if a pipeline's argument of guidance would be set over by a run's own."""
        for name, own in (("guidance", self.weight), ("rescale", "guidance_rescale")):
            if own in self.given and (scale is not None if name == "guidance" else rescale):
                raise GuidedError(f"{own} is given twice, as {name} and by pipe_args")
        if self.weight in self.given and (self.negative is not None or self.guider is not None):
            other = "a guider" if self.guider is not None else "a negative checkpoint"
            raise GuidedError(
                f"{self.weight} is given by pipe_args, but beside {other} its own guidance is off; leave it out"
            )
