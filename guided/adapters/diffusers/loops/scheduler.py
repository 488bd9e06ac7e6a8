"""A scheduler that hands out each prediction, and takes the next latents and time in.

It is an instance of a class derived from the pipeline's own scheduler, so that the pipeline finds all that it knows:
the configuration, the sigmas, the arguments of `step`. Latents keep one scale, that of the process: there is nothing to
scale before the network.
"""

__all__ = ["Exchange", "Refused", "Stopped", "Told", "plain", "rounding", "stand_in", "times_of"]

import copy
import functools
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from guided.errors import GuidedError

SIDE_BY_SIDE = "it denoises several latents side by side, each with a scheduler of its own"


class Refused(GuidedError):
    """A loop that cannot serve as a denoiser; the message is the reason, without the pipeline's name."""


class Stopped(BaseException):
    """Ends a pipeline's loop from inside; pipelines catch no such exception."""


@dataclass(frozen=True)
class Told:
    """What a loop says at a step.

    Args:
        prediction: The network's prediction, guidance included, with shape `(rows, *)`.
        sample: The latents that it was made for.
    """

    prediction: Tensor
    sample: Tensor


@dataclass
class Exchange:
    """What a loop and its caller share.

    Args:
        time: The time of the first question; None to stop where the loop begins.

    Attributes:
        asked: The next latents and their time, or None for the end.
        told: What the loop says, or the exception that ended it.
        setting: The arguments of `set_timesteps`, without the scheduler.
        scheduler: The pipeline's own scheduler after that.
        times: The times that the loop runs over, with shape `(k,)`; None before it begins.
        begun: Whether the pipeline has noised something before its loop, as an image to start from.
        blends: Whether it has noised something within its loop, to keep a part of the latents.
        known: What noising gives within the loop: "ones", "clean", or "latents" for the loop's next ones, which leaves
            them as they are.
        index: The number of the present turn of the loop.
        code: The code of the pipeline's call, to find its variables at the first step; None to leave them.
        variables: The variables of the pipeline's call at the first step.
    """

    time: float | None
    asked: "SimpleQueue[tuple[Tensor, float] | None]" = field(default_factory=SimpleQueue)
    told: "SimpleQueue[Told | BaseException]" = field(default_factory=SimpleQueue)
    setting: dict[str, Any] = field(default_factory=dict)
    scheduler: Any = None
    times: Tensor | None = None
    begun: bool = False
    blends: bool = False
    known: str = "latents"
    index: int = 0
    code: Any = None
    variables: dict[str, Any] = field(default_factory=dict)
    _next: tuple[Tensor, float] | None = None

    def turns(self, times: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The turns of the loop: a number and a time, which is the one that is asked next.

        Raises:
            Refused: A turn ended without a step.
            Stopped: Nothing more is asked.
        """
        self.times, time, known = times, self.time, times.tolist()
        if time is None:
            raise Stopped
        while True:
            self.index, t = nearest_time(times, known, time)
            self._next = None
            yield self.index, t
            time = self._asked_time()

    def _asked_time(self) -> float:
        if self._next is None:
            raise Refused("its loop does not call the scheduler's step at each time")
        return self._next[1]

    def swap(self, prediction: Tensor, sample: Tensor) -> Tensor:
        """Hands a prediction out, and waits for the next latents.

        Raises:
            Refused: The loop does not run over the scheduler's times, or steps twice a time.
            Stopped: Nothing more is asked.
        """
        if self.times is None:
            raise Refused("its loop does not run over the times of its scheduler")
        if self._next is not None:
            raise Refused("its loop calls the scheduler's step several times at one time")
        self.told.put(Told(prediction, sample))
        asked = self.asked.get()
        if asked is None:
            raise Stopped
        self._next = asked
        return asked[0].to(sample.device, sample.dtype, copy=True)

    def noised(self, clean: Tensor, noise: Tensor, own: Tensor) -> Tensor:
        """What the loop gets where it noises clean latents; `own` is what the scheduler makes of them."""
        whole = clean + torch.zeros_like(own)
        if self.times is None:
            self.begun = True
            return whole
        self.blends = True
        if self.known == "latents" and self._next is not None:
            x = self._next[0].to(own.device, own.dtype)
            if x.shape != own.shape:
                raise Refused("it keeps a part of its latents in another layout than that of its steps")
            return x
        return torch.ones_like(own) if self.known == "ones" else whole


def rounding(longest: float) -> float:
    """Half a time of a thousand, in the unit of a loop's times: those up to 1 are shares of the thousand."""
    return 0.5 if longest > 1 else 0.0005


def nearest_time(times: Tensor, known: Sequence[float], time: float) -> tuple[int, Tensor]:
    """The number of the loop's time that is nearest, and that time itself, or the given one where it is another.

    Some lies between them: schedulers round times whose noise is in between.

    Args:
        times: The loop's times, with shape `(k,)`.
        known: The same numbers.
        time: The time that is asked.
    """
    index = min(range(len(known)), key=lambda i: abs(known[i] - time))
    if abs(known[index] - time) <= rounding(max(known)):
        return index, times[index]
    return index, torch.tensor(time, device=times.device, dtype=torch.float32)


class _Times(Tensor):
    """The scheduler's times; to iterate over them, or over some of them, is to be asked.

    Within the loop there is always one more: a pipeline that keeps a part of its latents does not noise that part after
    the last time, but here the loop goes on.
    """

    exchange: Exchange

    def __deepcopy__(self, memo: Any) -> Any:
        raise Refused(SIDE_BY_SIDE)

    def __len__(self) -> int:
        return len(self.as_subclass(Tensor)) + (self.exchange.times is not None)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int):
            return super().__getitem__(index)
        return self.as_subclass(Tensor)[min(index, self.shape[0] - 1)]

    def __iter__(self) -> Iterator[Tensor]:
        return (t for _, t in self.turns())

    def turns(self) -> Iterator[tuple[int, Tensor]]:
        return self.exchange.turns(self.as_subclass(Tensor))


def times_of(iterable: Any) -> _Times | None:
    """The scheduler's times, if that is what is iterated over, with a progress bar around them or not."""
    found = getattr(iterable, "iterable", iterable)
    return found if isinstance(found, _Times) else None


def plain(value: Any) -> Any:
    """The scheduler's times as other tensors are; anything else unchanged."""
    return value.as_subclass(Tensor) if isinstance(value, _Times) else value


class _Stepped(tuple[Tensor, ...]):
    """The latents after a step, as a tuple and by the names that schedulers have for them."""

    prev_sample = property(lambda self: self[0])
    pred_original_sample = property(lambda self: self[1])
    denoised = property(lambda self: self[1])


class _StandIn:
    """What a scheduler does differently here; the rest is its own class's."""

    exchange: Exchange
    inner: Any

    def __deepcopy__(self, memo: Any) -> Any:
        raise Refused(SIDE_BY_SIDE)

    def scale_model_input(self, sample: Tensor, *args: Any, **options: Any) -> Tensor:
        return sample

    def _set(self, *args: Any, **options: Any) -> None:
        given = inspect.signature(self.inner.set_timesteps).bind(*args, **options).arguments
        self.exchange.setting = {**given, **given.pop("kwargs", {})}
        self.inner.set_timesteps(*args, **options)
        self.exchange.scheduler = self.inner
        times = self.inner.timesteps.as_subclass(type("Times", (_Times,), {"exchange": self.exchange}))
        vars(self).update({**vars(self.inner), "timesteps": times, **_ONE_SCALE})

    def _step(self, *args: Any, **options: Any) -> _Stepped:
        given = inspect.signature(self.inner.step).bind(*args, **options).arguments
        if self.exchange.code is not None:
            self.exchange.variables, self.exchange.code = _variables(self.exchange.code), None
        x = self.exchange.swap(given["model_output"], given["sample"])
        return _Stepped((x, x))

    def _noise(self, clean: Tensor, noise: Tensor, own: Tensor) -> Tensor:
        return self.exchange.noised(clean, noise, own)

    def _add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.exchange.noised(original_samples, noise, original_samples + torch.zeros_like(noise))

    def _scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        return self.exchange.noised(sample, noise, sample + torch.zeros_like(noise))


def _variables(code: Any) -> dict[str, Any]:
    """The variables of the call of this code that is under way in this thread; none if there is no such call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return {} if frame is None else dict(frame.f_locals)


#: What a scheduler of one scale has.
_ONE_SCALE = {"init_noise_sigma": 1.0, "order": 1}


def stand_in(scheduler: Any, exchange: Exchange) -> Any:
    """A scheduler in place of a pipeline's own, which stays as it is.

    Args:
        scheduler: Of diffusers.
        exchange: What is asked and told.
    """
    own: Any = type(scheduler)
    inner = copy.deepcopy(scheduler)
    changed = {"set_timesteps": "_set", "step": "_step", "add_noise": "_add_noise", "scale_noise": "_scale_noise"}
    methods: dict[str, Any] = {
        name: functools.wraps(getattr(own, name))(getattr(_StandIn, method))
        for name, method in changed.items()
        if hasattr(own, name)
    }
    methods |= {"__module__": own.__module__, "exchange": exchange, "inner": inner}
    found: Any = object.__new__(type(own.__name__, (_StandIn, own), methods | _ONE_SCALE))
    vars(found).update({**vars(inner), **_ONE_SCALE})
    return found
