"""A model with a guider of diffusers as its guidance."""

__all__ = ["Guiding", "with_guider"]

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from guided.adapters.diffusers.guiders.check import check_guider
from guided.adapters.diffusers.guiders.denoiser import ByGuider
from guided.adapters.diffusers.guiders.momentum import Momentum, branching
from guided.adapters.diffusers.guiders.names import described, read_guider
from guided.adapters.diffusers.prediction import Prediction
from guided.core.denoiser import Denoiser
from guided.core.diffusion import Diffusion
from guided.errors import GuidedError
from guided.storage import digest_of


@dataclass(frozen=True)
class Guiding:
    """A guider of diffusers.

    Args:
        guider: The guider; it stays as it is.
        description: Its name and parameters.
        momentum: Its running averages in this run; None where it has none.
    """

    guider: Any
    description: Mapping[str, Any]
    momentum: Momentum | None = None

    @property
    def remembers(self) -> str:
        return "" if self.momentum is None else self.momentum.reason

    def fresh(self) -> "Guiding":
        return self if self.momentum is None else replace(self, momentum=Momentum(self.momentum.reason))

    def keep(self, rows: Tensor) -> None:
        if self.momentum is not None:
            self.momentum.keep(rows)

    def around(self, positive: Denoiser, negative: Denoiser | None, times: Sequence[float]) -> ByGuider:
        assert isinstance(positive, Prediction)
        return ByGuider(self.guider, positive, negative, times, self.momentum)


def with_guider(model: Diffusion, guider: Any) -> Diffusion:
    """The model, guided by a guider of diffusers.

    Args:
        model: A pipeline of diffusers, by its family or by its own loop.
        guider: A guider, its name with parameters, or a mapping of these.

    Raises:
        GuidedError: The model is no pipeline; the guider is unknown, keeps something else than a momentum between the
            steps, mixes rows, or changes layers that the network does not have.
    """
    if not isinstance(model.denoiser, Prediction):
        raise GuidedError(f"{model.name} takes no guider: only pipelines of latents do; give guidance, the weight")
    made = read_guider(guider)
    description = described(made)
    name, entry = description["name"], "adaptive_projected_guidance_momentum"
    times = [model.process.time(k) for k in range(model.steps + 1)]
    check_guider(ByGuider(without(made, entry), model.denoiser, None, times), model.process.event, name)
    found = Guiding(made, description, Momentum(branching(name, entry)) if description.get(entry) is not None else None)
    identity = digest_of(f"{model.identity} {json.dumps(found.description, sort_keys=True)}")
    return replace(model.with_guider(found), identity=identity)


def without(guider: Any, momentum: str) -> Any:
    """A copy of a guider without momentum."""
    found = copy.copy(guider)
    if hasattr(found, momentum):
        setattr(found, momentum, None)
    return found
