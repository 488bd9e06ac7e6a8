"""What is learnt of a pipeline's loop before it serves as a denoiser, from a few turns of it.

Two rows are asked at the first time, then others at the next one, then the first of them again beside another one, and
two at the last time twice: predictions must be those of a row and a time alone. A part that the loop keeps (inpainting)
is found by what comes back of zeros.
"""

__all__ = ["Found", "Plan", "planned", "probed"]

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from guided.adapters.diffusers.loops.call import Call, Request
from guided.adapters.diffusers.loops.scheduler import Refused, Stopped, Told
from guided.adapters.diffusers.loops.tail import Tail
from guided.adapters.diffusers.loops.thread import Loop
from guided.errors import GuidedError, out_of_memory

ROWS = 2


@dataclass(frozen=True)
class Plan:
    """The times of a loop of some number of steps.

    Args:
        setting: The arguments of its scheduler's `set_timesteps`.
        scheduler: The scheduler after that.
        times: The times that the loop runs over, with shape `(k,)`.
    """

    setting: dict[str, Any]
    scheduler: Any
    times: Tensor


@dataclass(frozen=True)
class Found:
    """What is known of a pipeline's loop.

    Args:
        call: How the pipeline is called.
        event: The shape of a row of its latents.
        start: The clean row that it noises to start from, with shape `(1, *event)`; None for noise.
        free: The share of a new latent at each entry, with shape `(1, *event)`, 0 where the clean row is kept; None
            where nothing is kept.
        kept: The clean row times what is left of that share.
        tail: The last part of the call.
    """

    call: Call
    event: tuple[int, ...]
    start: Tensor | None
    free: Tensor | None
    kept: Tensor | None
    tail: Tail


def planned(call: Call, K: int) -> Plan:
    """The times of a loop of `K` steps; the pipeline runs up to its loop.

    Raises:
        Refused: It has no loop over its scheduler's times.
    """
    loop = Loop(replace(call, steps=K), Request(), 1, None)
    try:
        loop.listen()
    except Stopped:
        pass
    finally:
        loop.close()
    times = loop.exchange.times
    if times is None or not len(times):
        raise Refused("its loop does not run over the times of its scheduler")
    return Plan(loop.exchange.setting, loop.exchange.scheduler, times)


def probed(call: Call, request: Request, plan: Plan) -> Found:
    """What a loop shows in a few turns.

    Raises:
        GuidedError: It cannot serve as a denoiser.
    """
    try:
        return _probed(call, request, plan)
    except (Refused, RuntimeError, ValueError, TypeError) as error:
        if call.each or not call.prompted or out_of_memory(error):
            raise
        try:  # some ignore the number of samples, or have their images in another number
            return _probed(replace(call, each=True), request, plan)
        except Exception:  # of any class: the first error says more
            raise error from None


def _probed(call: Call, request: Request, plan: Plan) -> Found:
    first, then, last = (float(plan.times[i]) for i in (0, min(1, len(plan.times) - 1), -1))
    with _loop(call, request, first, capture=True) as (loop, told):
        x, event = told.sample.clone(), _event(told)  # some loops step in place
        free, kept, other = None, None, _drawn(x)
        again = loop.ask(other, then)
        if loop.exchange.blends:
            free, kept = _blend(loop, x, then)
            again = loop.ask(other, then)
        _check_same(again.sample, other)
        _check_pure(loop.ask(torch.cat([x[:1], other[1:]]), first).prediction[:1], told.prediction[:1])
        _check_pure(*(loop.ask(x, last).prediction for _ in range(2)))
        start = x[:1].float() if loop.exchange.begun else None
        tail = Tail(call.pipeline, loop.exchange.variables, plan.times)
    carries = start is None and free is None and "latents" in call.parameters and _carries(call, request, x, first)
    return Found(replace(call, carries=carries, precision=x.dtype), event, start, free, kept, tail)


@contextmanager
def _loop(
    call: Call, request: Request, time: float, latents: Tensor | None = None, capture: bool = False
) -> Iterator[tuple[Loop, Told]]:
    loop = Loop(call, request, ROWS, time, latents, capture)
    try:
        yield loop, loop.listen()
    finally:
        loop.close()


def _event(told: Told) -> tuple[int, ...]:
    x = told.sample
    if not isinstance(x, Tensor) or x.ndim < 2 or x.shape[0] != ROWS:
        given = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise Refused(f"{ROWS} samples have latents of {given}: not a row for each")
    return tuple(x.shape[1:])


def _blend(loop: Loop, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """The free share of each entry, and the clean row times the rest, with shape `(1, *event)` each."""
    loop.exchange.known = "ones"
    ones = loop.ask(torch.zeros_like(x), t).sample
    loop.exchange.known = "clean"
    clean = loop.ask(torch.zeros_like(x), t).sample
    loop.exchange.known = "latents"
    return 1 - ones[:1].float(), clean[:1].float()


def _check_same(sample: Tensor, x: Tensor) -> None:
    if sample.shape != x.shape or not torch.equal(sample, x):
        raise Refused("it changes its latents between the steps, and not by its scheduler")


def _check_pure(again: Tensor, before: Tensor) -> None:
    scale = before.float().abs().max().clamp(min=1e-6)
    if not (again.float() - before.float()).abs().max() <= 2e-2 * scale:
        raise Refused(
            "asked the same again, its loop predicts something else: it keeps something from step to step (a second "
            "network that takes turns, a cache, a momentum) or from row to row, and candidates branch"
        )


def _drawn(x: Tensor) -> Tensor:
    """Other latents, with the same shape; no two rows are the same."""
    return torch.randn(x.shape, generator=torch.Generator("cpu").manual_seed(1), device="cpu").to(x)


def _carries(call: Call, request: Request, x: Tensor, time: float) -> bool:
    """Whether the loop begins with the latents that the call is given."""
    given = _drawn(x)
    try:
        with _loop(call, request, time, given) as (_, told):
            return told.sample.shape == x.shape and torch.equal(told.sample, given)
    except GuidedError:
        raise
    except Exception:  # of any class: it takes them in another layout
        return False
