"""What a value is fitted to: a model with its prompts."""

__all__ = ["Source"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from guided.core.diffusion import Diffusion
from guided.core.monitor import Monitor
from guided.errors import GuidedError
from guided.values.learned import describe


@dataclass(frozen=True)
class Source:
    """A model, and prompts that its trajectories have in turn: trajectory i has the one with number i modulo P.

    Attributes:
        model: The model, with the number of steps of the trajectories.
        prompts: The distinct prompts; none for an unconditional model.
        guidance: The weight of classifier-free guidance; None for none.
    """

    model: Diffusion
    prompts: tuple[str, ...] = ()
    guidance: float | None = None

    @classmethod
    def of(cls, model: Diffusion, prompt: str | Sequence[str] | None, guidance: float | None) -> "Source":
        """The model with the prompts that are given, or else with those that it has already.

        Raises:
            ValueError: The model takes no prompt or not these, its steps are deterministic, or it has other pinned
                tokens for each request.
        """
        if not any(model.process.stochastic(k) for k in range(model.steps)):
            raise GuidedError(f"{model.name} has eta = 0: where steps are deterministic, no value can choose")
        fixed = model.process.fixed
        if fixed is not None and fixed.ndim > 1:
            raise GuidedError("the model has other pinned tokens for each request; a value holds for one (L,) pattern")
        if model.requests.editing is not None:
            raise GuidedError("the model starts from a sample; a value holds for runs from noise")
        if prompt is None and guidance is None and not model.prompting.conditional:
            return cls(model)
        if prompt is not None and not isinstance(prompt, str) and not len(prompt):
            raise GuidedError("prompt is an empty list; give one or more")
        given = [prompt] if isinstance(prompt, str) else model.prompts if prompt is None else prompt
        prompts = tuple(dict.fromkeys(given)) or (model.prompting.unconditional or "",)
        posed = model.requests.guidance
        if guidance is None and posed is not None and model.prompting.negative is None:
            guidance = posed.scale
        elif guidance is None and model.prompting.guidance is not None and model.requests.conditions:
            guidance = 1.0  # the model was prompted without
        model.prompted(
            [told or model.prompting.unconditional for told in prompts], guidance
        )  # says early what is wrong
        return cls(model, prompts, guidance)

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of a row."""
        return self.model.process.event

    @property
    def tokens(self) -> int | None:
        """The number of tokens, the mask included; None for a continuous model."""
        return self.model.process.tokens

    def cycle(self, n: int) -> list[str] | None:
        """The prompts of trajectories `0..n-1`; None for an unconditional model."""
        return [self.prompts[i % len(self.prompts)] for i in range(n)] if self.prompts else None

    def part(self, trajectories: list[int]) -> Diffusion:
        """The model for these trajectories, with counters of its own."""
        model = self.model.with_requests(monitor=Monitor())
        if not self.prompts:
            return model
        prompts = [self.prompts[i % len(self.prompts)] for i in trajectories]
        return model.prompted([prompt or model.prompting.unconditional for prompt in prompts], self.guidance)

    @property
    def description(self) -> dict[str, Any]:
        """What the value depends on, JSON-able."""
        return describe(self.part(list(range(len(self.prompts)))))
