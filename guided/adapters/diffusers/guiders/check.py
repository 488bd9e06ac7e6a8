"""What a guider must be: a function of predictions at one step, row by row, which changes layers that there are."""

__all__ = ["check_guider"]

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor

from guided.adapters.diffusers.guiders.denoiser import (
    ByGuider,
    changes,
    combined,
    identifier,
    network_of,
    prepared,
    wanted,
)
from guided.adapters.diffusers.guiders.names import LAYERS
from guided.errors import GuidedError

PREDICTIONS = ("pred_cond", "pred_uncond", "pred_cond_skip", "pred_cond_seg")
ROWS = 2
SCALES = (1.0, 100.0)  # below and above thresholds of norms


def check_guider(denoiser: ByGuider, event: tuple[int, ...], name: str) -> None:
    """Tries a guider on made-up predictions, at steps that differ.

    Args:
        denoiser: The guider around a model's denoisers.
        event: The shape of a row.
        name: The guider's name, for messages.

    Raises:
        GuidedError: It does not work, keeps something between the steps, or mixes rows.
    """
    guider = denoiser.guider
    others = [given for given in guider._input_predictions if given not in PREDICTIONS]
    if others:
        raise GuidedError(f"guider {name!r} wants a prediction that pipelines do not have: {', '.join(others)}")
    _check_levels(guider, name)
    K = len(denoiser.times) - 1
    steps = _different(guider, K)
    if changes(guider):
        with _one_line(f"guider {name!r} does not fit {type(network_of(denoiser.positive)).__name__}"):
            _check_layers(denoiser, steps, name)
    with _one_line(f"guider {name!r} does not work with rows of shape {event}"):
        _check_formula(guider, event, steps, K, name)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turns errors of a guider into one line."""
    try:
        yield
    except GuidedError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as error:
        raise GuidedError(f"{what}: {' '.join(str(error).split())}") from error


def _different(guider: Any, K: int) -> list[int]:
    """Steps at which it may do different things: the first with each number of predictions, a middle one, the last."""
    first: dict[int, int] = {}
    for step in range(K):
        first.setdefault(len(wanted(_told(copy.copy(guider), step, K))), step)
    return sorted({*first.values(), 0, K // 2, K - 1})


def _told(guider: Any, step: int, K: int) -> Any:
    guider.set_state(step, K, torch.tensor(0.0, device="cpu"))
    return guider


def _check_levels(guider: Any, name: str) -> None:
    """In diffusers, a level that is not guided at a step takes another level's prediction."""
    scales = getattr(guider, "guidance_scales", ())
    none = 0.0 if getattr(guider, "use_original_formulation", False) else 1.0
    for what in ("guidance_start", "guidance_stop"):
        if len(set(getattr(guider, what, ()))) > 1:
            raise GuidedError(f"guider {name!r} guides all levels at the same steps; {what[9:]} must be one number")
    if none in scales and len(set(scales)) > 1:
        raise GuidedError(f"guider {name!r} guides every level; guidance_scales must be other than {none:g}")


def _check_layers(denoiser: ByGuider, steps: Sequence[int], name: str) -> None:
    """Changes the layers as the guider would, and puts them back."""
    guider, network = denoiser.guider, network_of(denoiser.positive)
    if network is None or hasattr(network, "_orig_mod"):
        what = "does not say which network it has" if network is None else "has a compiled network"
        raise GuidedError(f"guider {name!r} changes layers, and the model {what}")
    for given in (config for place in LAYERS for config in getattr(guider, place, None) or ()):
        if getattr(given, "dropout", 1.0) != 1.0:
            raise GuidedError(
                f"guider {name!r} drops outputs of layers at random: a sample would depend on the others; dropout "
                "must be 1"
            )
    asked = [step for step in steps if _asked(denoiser, step)]
    if not asked and guider._enabled:
        K = len(denoiser.times) - 1
        raise GuidedError(f"guider {name!r} changes layers at none of the {K} steps; give it another start and stop")
    if asked and not any(_layers(denoiser, step) for step in asked):
        raise GuidedError(f"guider {name!r} changes nothing in {type(network).__name__}: the layers have no such part")


def _asked(denoiser: ByGuider, step: int) -> bool:
    """Whether layers are to be changed at a step."""
    guider = _told(copy.copy(denoiser.guider), step, len(denoiser.times) - 1)
    names = [identifier(guider, batch) for batch in wanted(guider)]
    auto = hasattr(guider, "auto_guidance_config") and "pred_uncond" in names
    return auto or any(entry not in ("pred_cond", "pred_uncond") for entry in names)


def _layers(denoiser: ByGuider, step: int) -> int:
    """The number of layers that are changed at a step."""
    guider, network = denoiser.guider, network_of(denoiser.positive)
    guider, most = _told(copy.copy(guider), step, len(denoiser.times) - 1), 0
    for batch in wanted(guider):
        with prepared(guider, batch, denoiser.positive):
            hooks = [module._diffusers_hook.hooks for module in network.modules() if hasattr(module, "_diffusers_hook")]
            most = max(most, sum(type(hook).__name__ in HOOKS for found in hooks for hook in found.values()))
    return most


HOOKS = (
    "AttentionProcessorSkipHook",
    "FeedForwardSkipHook",
    "SmoothedEnergyGuidanceHook",
    "TransformerBlockSkipHook",
)


def _check_formula(guider: Any, event: tuple[int, ...], steps: Sequence[int], K: int, name: str) -> None:
    """Asked the same again it must say the same, and of one row alone what it says of it beside another."""
    generator = torch.Generator("cpu").manual_seed(0)
    own, alone = copy.deepcopy(guider), copy.deepcopy(guider)
    for step, scale in product(steps, SCALES):
        first, then = (_predictions(event, scale, generator) for _ in range(2))
        before, _, again = (_of(_told(own, step, K), given) for given in (first, then, first))
        if before.shape != (ROWS, *event):
            raise GuidedError(f"guider {name!r} makes {tuple(before.shape)} of predictions of {(ROWS, *event)}")
        if not _same(again, before):
            raise GuidedError(
                f"guider {name!r} keeps something from step to step, or draws: candidates branch, and it would be "
                "another particle's"
            )
        one = _of(_told(alone, step, K), {key: raw[:1] for key, raw in first.items()})
        if not _same(one, before[:1]):
            raise GuidedError(
                f"guider {name!r} mixes rows: a sample would depend on the others; sums must leave out the first axis"
            )


def _predictions(event: tuple[int, ...], scale: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Predictions by name, with shape `(ROWS, *event)`, not far from each other."""
    base = scale * torch.randn(ROWS, *event, generator=generator, device="cpu")
    return {key: base + 0.3 * scale * torch.randn(base.shape, generator=generator, device="cpu") for key in PREDICTIONS}


def _of(guider: Any, given: dict[str, Tensor]) -> Tensor:
    batches = wanted(guider)
    return combined(guider, batches, [given[identifier(guider, batch)] for batch in batches])


def _same(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-4 * b.abs().max().clamp(min=1e-3))
