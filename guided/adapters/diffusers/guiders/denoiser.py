"""A guider's formula on the predictions of a model's denoisers, at the step of their time.

The guider is told the step, says which predictions it wants, may change layers of the network for some of them, and
combines them. It acts on raw predictions, as in diffusers; the clean mean comes after it. A copy of it is told the
step, so that nothing of one call is left for another, but for the averages of a momentum, which are kept by row.
"""

__all__ = ["ByGuider", "combined", "network_of", "wanted"]

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from guided.adapters.diffusers.guiders.momentum import Momentum
from guided.adapters.diffusers.prediction import Prediction
from guided.core.batching import Rows
from guided.core.denoiser import Denoiser

#: The calls of the network are numbered in diffusers: the first, the second, and those for which layers change.
NUMBERS = {"pred_cond": 1, "pred_uncond": 2}
CHANGED = 3

#: Guiders whose norm is that of whole rows, and which take it of two axes only.
FLAT = ("MagnitudeAwareGuidance",)


@dataclass(frozen=True)
class ByGuider:
    """A denoiser of both sides, a pure function of rows, times and conditions.

    Args:
        guider: Of diffusers.
        positive: The denoiser that is guided.
        negative: The negative denoiser; None for the positive one again.
        times: The times of the steps that are taken, and that of the data.
        momentum: The guider's running averages; None where it has none.
        place: Which of the rows of a step are asked, and how many it has; None for all.
    """

    guider: Any
    positive: Prediction
    negative: Denoiser | None
    times: Sequence[float]
    momentum: Momentum | None = None
    place: tuple[Rows, int] | None = None

    def at(self, rows: Rows, n: int) -> "ByGuider":
        """The same for some of the `n` rows of a step."""
        return replace(self, place=(rows, n))

    @property
    def cost(self) -> int:
        """Network rows for one row, at the steps with the most."""
        return max(map(self._rows, range(len(self.times) - 1)))

    def cost_at(self, time: float) -> int:
        """Network rows for one row at a time."""
        return self._rows(self._step(time))

    def _rows(self, step: int) -> int:
        return sum(getattr(self._side(batch), "cost", 1) for batch in wanted(self._told(step)))

    def __call__(self, x: Tensor, t: Tensor, negative: Mapping[str, Tensor] | None = None, /, **cond: Tensor) -> Tensor:
        """The guided output for rows `(n, *event)` at times `(n,)`.

        The arguments are those of :class:`guided.core.guidance.Guided`.
        """
        conditions = {"positive": cond, "negative": cond if negative is None else negative}
        own = t.tolist()
        different = list(dict.fromkeys(own))
        if len(different) == 1:
            return self._at(x, t, conditions, own[0])
        found = torch.empty_like(x)
        for time in different:
            rows = t == time
            some = {side: {key: c[rows] for key, c in given.items()} for side, given in conditions.items()}
            found[rows] = self._at(x[rows], t[rows], some, time)
        return found

    def _at(self, x: Tensor, t: Tensor, conditions: Mapping[str, Mapping[str, Tensor]], time: float) -> Tensor:
        """The output of rows of one time."""
        step = self._step(time)
        guider = self._told(step)
        batches = wanted(guider)
        sides = [self._side(batch) for batch in batches]
        if len(batches) == 2 and sides[0] is sides[1] and not changes(guider):
            first, second = (conditions[batch.side] for batch in batches)
            both = {name: torch.cat([c, second[name]]) for name, c in first.items()}
            raws = [*self._raw(sides[0], torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)]
        else:
            raws = []
            for batch, side in zip(batches, sides, strict=True):
                with prepared(guider, batch, side):
                    raws.append(self._raw(side, x, t, conditions[batch.side]))
        place = self.place or (slice(None), len(x))
        with nullcontext() if self.momentum is None else self.momentum.kept(guider, step, *place):
            return self.positive.clean(x, t, combined(guider, batches, raws))

    def _step(self, time: float) -> int:
        """The step whose time is nearest."""
        return min(range(len(self.times) - 1), key=lambda k: abs(self.times[k] - time))

    def _told(self, step: int) -> Any:
        """A copy of the guider, told the step."""
        guider = copy.copy(self.guider)
        if self.momentum is not None:
            guider.set_state(0, 1, None)
            wanted(guider)  # at its first step it makes a buffer
        time = torch.tensor(self.times[step], dtype=torch.float32, device="cpu")
        guider.set_state(step, len(self.times) - 1, time)
        return guider

    def _side(self, batch: Any) -> Any:
        return self.positive if batch.side == "positive" or self.negative is None else self.negative

    def _raw(self, side: Any, x: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        if isinstance(side, Prediction):
            return side.network(x, t, **cond)
        return self.positive.raw(x, t, side(x, t, **cond))


def wanted(guider: Any) -> list[Any]:
    """The predictions that a guider wants, each with its `side`.

    It is that of the prediction's name: at a weight of 1, diffusers makes `pred_cond_skip` without the prompt.
    """
    found: list[Any] = guider.prepare_inputs({"side": ("positive", "negative")})
    for batch in found:
        batch.side = "negative" if identifier(guider, batch) == "pred_uncond" else "positive"
    return found


def combined(guider: Any, batches: Sequence[Any], raws: Sequence[Tensor]) -> Tensor:
    """What a guider makes of predictions, with shape `(n, *event)` each."""
    flat = type(guider).__name__ in FLAT
    for batch, raw in zip(batches, raws, strict=True):
        batch.noise_pred = raw.flatten(1)[:, None] if flat else raw
    found: Tensor = guider(batches).pred
    return found.view(raws[0].shape) if flat else found


def identifier(guider: Any, batch: Any) -> str:
    """The name of a prediction, as a guider has it."""
    return str(getattr(batch, guider._identifier_key))


def changes(guider: Any) -> bool:
    """Whether a guider may change layers of the network."""
    from diffusers.guiders.guider_utils import BaseGuidance

    return type(guider).prepare_models is not BaseGuidance.prepare_models


@contextmanager
def prepared(guider: Any, batch: Any, denoiser: Any) -> Iterator[None]:
    """Inside, the layers of a denoiser's network are as a guider wants them for a prediction.

    The number of the call is set here: diffusers counts calls, and so changes nothing for the second of two
    (perturbed attention alone), nor for smoothed energy, which does not count.
    """
    if not changes(guider):
        yield
        return
    network, number = network_of(denoiser), NUMBERS.get(identifier(guider, batch), CHANGED)
    try:
        guider._count_prepared = number - 1
        guider.prepare_models(network)
        if guider._count_prepared < number:
            guider._count_prepared = number
            guider.prepare_models(network)
        yield
    finally:
        guider._count_prepared = number
        guider.cleanup_models(network)


def network_of(denoiser: Any) -> Any:
    """The network of a denoiser, of a family or of a loop; None if it is not known."""
    network = getattr(denoiser, "network", None)
    call = getattr(network, "call", None)
    return getattr(network, "net", None) if call is None else call.network
