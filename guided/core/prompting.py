"""How a model is prompted: prompts to conditions and a weight of guidance."""

__all__ = ["Prompting", "check_alone"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from guided.core.denoiser import Denoiser
from guided.core.guidance import Conditions, Guidance, Guider
from guided.errors import GuidedError, check_number

NEGATIVE_SCALE = 1.5  # with a negative denoiser, for a model without a guidance weight of its own


@dataclass(frozen=True)
class Prompting:
    """What a model can be conditioned on, and its guidance.

    Args:
        encode: Maps `n` prompts to the conditions of as many requests, with shape `(n, *)` each; None for an
            unconditional model.
        unconditional: The prompt that stands for no prompt, the negative side of classifier-free guidance.
        guidance: The default weight of classifier-free guidance; None for no guidance.
        negative: The denoiser on the negative side of guidance; None for the model's own, without a prompt.
        examples: Some prompts that the model knows, for training that needs some.
        guider: What guides by another formula than a weight; None for that of the weight.
    """

    encode: Callable[[Sequence[Any]], Mapping[str, Tensor]] | None = None
    unconditional: str | None = ""
    guidance: float | None = None
    negative: Denoiser | None = None
    examples: Sequence[str] = ()
    guider: Guider | None = None

    @property
    def conditional(self) -> bool:
        """Whether the model takes prompts."""
        return self.encode is not None

    def conditions(self, prompts: Sequence[str | None]) -> dict[str, Tensor]:
        """The conditions of `n` prompts, with shape `(n, *)` each; none for an unconditional model."""
        return {} if self.encode is None else dict(self.encode(prompts))

    def named(self, prompts: Sequence[str | None]) -> list[str | None]:
        """The prompts, with the unconditional one in place of None."""
        return [self.unconditional if prompt is None else prompt for prompt in prompts]

    def check(self, model: str, prompts: Sequence[str | None], negative: Sequence[str | None] | None) -> None:
        """Checks that the model can be prompted; `model` is its name, for messages.

        Raises:
            GuidedError: It is unconditional, and has no negative denoiser or is given prompts.
        """
        if self.encode is not None:
            return
        if self.negative is None:
            raise GuidedError(
                f"{model} takes no prompt and no guidance: it is unconditional, and has no negative checkpoint"
            )
        if any(prompts) or negative is not None:
            raise GuidedError(f"{model} takes no prompt: it is unconditional")

    def resolve(
        self,
        prompts: Sequence[str | None],
        scale: float | None = None,
        negative: Sequence[str | None] | None = None,
        rescale: float = 0.0,
    ) -> tuple[Conditions, Guidance | None]:
        """The conditions of prompts, one for each request, and their guidance; None where one side is evaluated.

        The arguments are those of :meth:`guided.core.diffusion.Diffusion.prompted`.

        Raises:
            GuidedError: The weight is not finite, a negative prompt or a rescale is given without guidance, or a weight
                or a rescale beside a guider.
        """
        prompts = self.named(prompts)
        negative = None if negative is None else self.named(negative)
        if self.guider is not None:
            check_alone(scale, rescale)
            sides = (prompts, negative or [self.unconditional] * len(prompts))
            return Conditions(*map(self.conditions, sides)), Guidance(guider=self.guider)
        if scale is None:
            scale = NEGATIVE_SCALE if self.guidance is None and self.negative is not None else self.guidance
        scale = None if scale is None else check_number("guidance", scale, float)
        positive = self.conditions(prompts)
        plain = negative is None and all(prompt == self.unconditional for prompt in prompts)
        same = plain and self.negative is None  # both sides are the same
        if scale is None or same or (scale == 1 and negative is None):
            if negative is not None or (rescale and not same):
                raise GuidedError("a negative prompt and a guidance rescale need guidance; give its weight")
            return Conditions(positive), None
        negative_conditions = self.conditions([self.unconditional] * len(prompts) if negative is None else negative)
        return Conditions(positive, negative_conditions), Guidance(scale, rescale)


def check_alone(scale: float | None, rescale: float) -> None:
    """Raises GuidedError if there is a weight of guidance, or a rescale: a guider has its own."""
    for name, value in (("guidance", scale), ("rescale", rescale or None)):
        if value is not None:
            own = "guidance_scale" if name == "guidance" else "guidance_rescale"
            raise GuidedError(f"{name} is {value}, and a guider has its own; give the guider its {own} instead")
