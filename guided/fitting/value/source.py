"""The model and the prompts that a value is fitted to."""

__all__ = ["Source"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from guided.core.diffusion import Diffusion
from guided.core.graphs import Graphs
from guided.core.monitor import Monitor
from guided.errors import GuidedError
from guided.values.learned import describe


@dataclass(frozen=True)
class Source:
    """A model, and P prompts that its trajectories take in turn: trajectory i has prompt i modulo P.

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
        """The model with the given prompts, or with those that it already has.

        Raises:
            GuidedError: The model takes no prompts or not these, its steps are deterministic, or its pinned tokens
                differ between requests.
        """
        if not any(model.process.stochastic(k) for k in range(model.steps)):
            raise GuidedError(
                f"{model.name} has eta = 0: its steps are deterministic, so a value has no candidates to select from"
            )
        fixed = model.process.fixed
        if fixed is not None and fixed.ndim > 1:
            raise GuidedError(
                "the model has different pinned tokens for each request; a value is fitted to one pattern of shape (L,)"
            )
        if model.prompting.guider is not None:
            raise GuidedError(f"{model.name} has a guider; a value is fitted to runs with a weight of guidance")
        if model.requests.editing is not None:
            raise GuidedError("the model starts from a sample; a value is fitted to runs from noise")
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
            guidance = 1.0  # the model was prompted without guidance
        model.prompted(
            [text or model.prompting.unconditional for text in prompts], guidance
        )  # raises if something is wrong
        return cls(model, prompts, guidance)

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of a row."""
        return self.model.process.event

    @property
    def tokens(self) -> int | None:
        """The number of tokens, the mask included; None for a continuous model."""
        return self.model.process.tokens

    @property
    def graphs(self) -> bool:
        """Whether a row is a graph."""
        return isinstance(self.model.process, Graphs)

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
        """All that a value depends on in the model, JSON-able."""
        return describe(self.part(list(range(len(self.prompts)))))
