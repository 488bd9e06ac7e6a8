"""A pipeline's own call: its arguments, checked against its signature, and the function with its loop."""

__all__ = ["IP_ADAPTER", "PER_PROMPT", "Call", "Request", "adapted", "quiet_copy"]

import copy
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any

import torch

from guided.adapters.diffusers.loops.annotated import accepts, described
from guided.adapters.diffusers.loops.scheduler import Exchange, stand_in, times_of
from guided.errors import GuidedError, check_number, kind_of, nearest, shown

#: The arguments for the number of samples of a prompt.
PER_PROMPT = ("num_images_per_prompt", "num_videos_per_prompt", "num_waveforms_per_prompt")

#: The arguments that are set here, and what a user gives instead.
OURS = {
    "latents": "noise is drawn by the run",
    "generator": "give seed",
    "num_inference_steps": "give steps",
    "prompt": "give prompt",
    "negative_prompt": "give negative_prompt",
    "output_type": "samples are images, videos or audio",
    "return_dict": "samples are images, videos or audio",
    "eta": "give eta as an option of the model",
    "callback_on_step_end": "a run has progress instead",
    "callback_on_step_end_tensor_inputs": "a run has progress instead",
    "callback": "a run has progress instead",
    **dict.fromkeys((*PER_PROMPT, "batch_size"), "give n"),
}

#: The arguments that are the image of an IP-Adapter.
IP_ADAPTER = ("ip_adapter_image", "ip_adapter_image_embeds")

#: The arguments that are the weight of classifier-free guidance, the first that a pipeline has.
WEIGHTS = ("true_cfg_scale", "guidance_scale")


#: The names of the parts that predict.
NETWORKS = ("transformer", "unet", "dit", "prior", "decoder", "net", "model")


@dataclass(frozen=True)
class Request:
    """What a loop is called for.

    Args:
        prompt: The prompt; None for no prompt.
        negative: The negative prompt; None for the pipeline's.
        guidance: The weight of guidance; None for the pipeline's.
        rescale: The share of guidance rescale.
    """

    prompt: str | None = None
    negative: str | None = None
    guidance: float | None = None
    rescale: float = 0.0


@dataclass(frozen=True)
class Call:
    """How a pipeline is called.

    Args:
        pipeline: Of diffusers, on its device.
        given: Arguments by name, besides those of a request.
        steps: The number of steps; None for the pipeline's own.
        carries: Whether it takes latents as its loop has them, so that no turn of the loop is lost.
        each: Whether prompts and images are given one for each row, rather than with their number of samples.
        precision: That of the latents where its loop begins; None for the network's. Some pipelines keep them in
            float32 beside a network of half precision, and want them so.

    Raises:
        GuidedError: An argument is unknown, of a wrong type, or not one for the user.
    """

    pipeline: Any
    given: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    carries: bool = False
    each: bool = False
    precision: torch.dtype | None = None

    def __post_init__(self) -> None:
        name = type(self.pipeline).__name__
        for key in self.given:
            if key in OURS:
                raise GuidedError(f"{name} is given {key} by pipe_args; {OURS[key]}")
            if key not in self.parameters:
                known = [other for other in self.parameters if other not in OURS]
                raise GuidedError(
                    f"{name} has no argument {key!r}{nearest(key, known)}; pipe_args are {', '.join(known)}"
                )
        for key, value in self.given.items():
            annotation = self.parameters[key].annotation
            if not accepts(annotation, value):
                given = shown(value) if isinstance(value, str | int | float) else kind_of(value)
                raise GuidedError(f"{name} is given {key} {given} by pipe_args; it must be {described(annotation)}")

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The arguments of the pipeline's call, by name."""
        found = inspect.signature(inspect.unwrap(type(self.pipeline).__call__)).parameters
        return {name: p for name, p in found.items() if name != "self" and p.kind is not p.VAR_KEYWORD}

    @property
    def code(self) -> Any:
        """The code of the pipeline's call."""
        return inspect.unwrap(type(self.pipeline).__call__).__code__

    @property
    def part(self) -> str:
        """The name of the network that predicts, among the pipeline's parts.

        Raises:
            GuidedError: There is none.
        """
        nets = {name: part for name, part in self.pipeline.components.items() if isinstance(part, torch.nn.Module)}
        known = [name for name in NETWORKS if name in nets]
        if not known:
            raise GuidedError(f"{type(self.pipeline).__name__} has no network called {', '.join(NETWORKS)}")
        return known[0]

    @property
    def network(self) -> Any:
        """The network that predicts."""
        return getattr(self.pipeline, self.part)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network."""
        found: torch.dtype = self.network.dtype
        return found

    @property
    def prompted(self) -> bool:
        """Whether it takes a prompt, and none is in the given arguments as an embedding."""
        return "prompt" in self.parameters and not any("prompt_embeds" in name for name in self.given)

    @property
    def weight(self) -> str | None:
        """The argument for the weight of guidance; None where there is none."""
        return next((name for name in WEIGHTS if name in self.parameters), None)

    @property
    def sides(self) -> int:
        """How often its network is asked for a row, as far as its default guidance tells; known when it is asked."""
        own = None if self.weight is None else self.parameters[self.weight].default
        return 2 if self.weight == "guidance_scale" and isinstance(own, int | float) and own > 1 else 1

    @property
    def default_steps(self) -> int:
        """The number of steps that the pipeline takes if none is given."""
        own = self.parameters.get("num_inference_steps")
        default = 50 if own is None or own.default in (None, own.empty) else own.default
        return check_number("num_inference_steps", default, int, least=1)

    def with_network(self, part: str, net: Any) -> "Call":
        """The same call of a pipeline with another network in one of its parts."""
        other = copy.copy(self.pipeline)
        vars(other)[part] = net
        return replace(self, pipeline=other)

    def arguments(self, request: Request, rows: int, latents: Any = None) -> dict[str, Any]:
        """The arguments of a call for as many rows of a request.

        Raises:
            GuidedError: The pipeline does not take what the request has.
        """
        known = self.parameters
        given = {name: self._each(value, rows) if _is_image(value) else value for name, value in self.given.items()}
        found: dict[str, Any] = {**given, **self._number(rows), **self._prompts(request, rows)}
        if self.steps is not None and "num_inference_steps" in known:
            found["num_inference_steps"] = self.steps
        if "generator" in known:  # for parts that draw on their own account: the same in every loop
            found["generator"] = torch.Generator("cpu").manual_seed(0)
        if latents is not None:
            found["latents"] = latents
        return found | {name: value for name, value in _OUTPUT.items() if name in known}

    def _number(self, rows: int) -> dict[str, Any]:
        if self.each:
            return {}
        found = next((name for name in (*PER_PROMPT, "batch_size") if name in self.parameters), None)
        return {} if found is None else {found: rows}

    def _prompts(self, request: Request, rows: int) -> dict[str, Any]:
        name, found = type(self.pipeline).__name__, {}
        if self.prompted:
            found["prompt"] = self._each(request.prompt or "", rows)
        elif request.prompt:
            raise GuidedError(f"{name} takes no prompt")
        negative = request.negative
        if self.weight == "true_cfg_scale" and request.guidance not in (None, 1) and negative is None:
            negative = ""  # without a negative prompt such pipelines guide nothing
        if negative is not None:
            if "negative_prompt" not in self.parameters:
                raise GuidedError(f"{name} takes no negative prompt")
            found["negative_prompt"] = self._each(negative, rows)
        if request.guidance is not None and self.weight is not None:
            found[self.weight] = request.guidance
        elif request.guidance not in (None, 1):
            raise GuidedError(f"{name} takes no guidance: it has no argument {' or '.join(WEIGHTS)}")
        if request.rescale:
            if "guidance_rescale" not in self.parameters:
                raise GuidedError(f"{name} takes no guidance rescale: it has no argument guidance_rescale")
            found["guidance_rescale"] = request.rescale
        return found

    def _each(self, value: Any, rows: int) -> Any:
        return [value] * rows if self.each else value

    def run(self, exchange: Exchange, arguments: Mapping[str, Any]) -> Any:
        """Calls a copy of the pipeline, whose scheduler is ours, without gradients."""
        pipeline = quiet_copy(self.pipeline)
        vars(pipeline)["scheduler"] = stand_in(self.pipeline.scheduler, exchange)
        with torch.no_grad():
            return looped(type(pipeline))(pipeline, **arguments)


def adapted(pipeline: Any) -> bool:
    """Whether an IP-Adapter is loaded into a pipeline's network."""
    nets = (getattr(pipeline, name, None) for name in NETWORKS)
    return any("IPAdapter" in type(getattr(net, "encoder_hid_proj", None)).__name__ for net in nets)


def _is_image(value: Any) -> bool:
    library = sys.modules.get("PIL.Image")  # without this import there are no images
    return library is not None and isinstance(value, library.Image)


_OUTPUT = {"output_type": "latent", "return_dict": True}


def looped(kind: Any) -> FunctionType:
    """A pipeline's call whose loop is numbered by the time that is asked, not by its turn.

    Some pipelines do different things at different numbers, as a ControlNet that ends early.
    """
    call: Any = inspect.unwrap(kind.__call__)
    own = {**call.__globals__, "enumerate": _numbered}
    found = FunctionType(call.__code__, own, call.__name__, call.__defaults__, call.__closure__)
    found.__kwdefaults__ = call.__kwdefaults__
    return found


def _numbered(iterable: Any, start: int = 0) -> Iterator[tuple[int, Any]]:
    times = times_of(iterable)
    return enumerate(iterable, start) if times is None else times.turns()


def quiet_copy(pipeline: Any) -> Any:
    """A copy of a pipeline on the same networks, without a progress bar; its encoder gives means instead of draws."""
    found = copy.copy(pipeline)
    vars(found)["_progress_bar_config"] = {"disable": True}
    vae = getattr(pipeline, "vae", None)
    if hasattr(vae, "encode"):
        vars(found)["vae"] = _mean_encoder(vae)
    return found


def _mean_encoder(vae: Any) -> Any:
    """A copy of an autoencoder on the same weights, whose distributions give their mode when they are sampled."""
    found = copy.copy(vae)

    def encode(*args: Any, **options: Any) -> Any:
        encoded = vae.encode(*args, **options)
        for distribution in encoded if isinstance(encoded, tuple) else [getattr(encoded, "latent_dist", None)]:
            if distribution is not None and hasattr(distribution, "mode"):
                distribution.sample = lambda generator=None, own=distribution: own.mode()
        return encoded

    vars(found)["encode"] = encode
    return found
