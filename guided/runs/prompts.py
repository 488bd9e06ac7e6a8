"""The prompts of a run, one for each request. They are encoded block by block, as requests are drawn."""

__all__ = ["Prompts"]

from collections.abc import Sequence
from dataclasses import dataclass

from guided.core.diffusion import Diffusion
from guided.core.guidance import Conditions
from guided.errors import GuidedError
from guided.negatives.weights import NEGATIVES
from guided.runs.options import spelled

CHECKED = 256  # the number of distinct prompts that are encoded before a run, to find errors early
ENCODED_AT_ONCE = 32


@dataclass(frozen=True)
class Prompts:
    """The prompts of `n` requests.

    Args:
        positive: A prompt or None for each request; None to leave the model as it is.
        negative: The prompts that guidance steers away from; None for the model's unconditional one.
        guidance: The weight of classifier-free guidance; None for the model's own, or that of a negative checkpoint.
        rescale: The share of guidance rescale.
    """

    positive: Sequence[str | None] | None = None
    negative: Sequence[str | None] | None = None
    guidance: float | None = None
    rescale: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether there are no negative prompts and no rescale."""
        return self.negative is None and not self.rescale

    @classmethod
    def of(
        cls,
        model: Diffusion,
        n: int,
        prompt: str | Sequence[str] | None = None,
        negative: str | Sequence[str] | None = None,
        guidance: float | None = None,
        rescale: float = 0.0,
    ) -> "Prompts":
        """The prompts of `n` requests, from one prompt for all or one for each.

        Raises:
            GuidedError: The number of prompts is neither one nor `n`.
        """
        guider = model.prompting.guider
        asked = any(given is not None for given in (prompt, negative, guidance, guider)) or rescale != 0
        bare = not model.prompting.conditional and model.prompting.negative is None
        if not asked and (bare or model.requests.conditions):
            return cls()
        none = prompt is None or (prompt == "" and model.prompting.unconditional is not None)
        if prompt is None and model.prompts:  # set by an earlier call
            prompt = list(model.prompts)
            positive = [text or model.prompting.unconditional for text in _each("prompts", prompt, n)]
        else:
            positive = [model.prompting.unconditional] * n if none or prompt is None else _each("prompts", prompt, n)
        return cls(positive, None if negative is None else _each("negative prompts", negative, n), guidance, rescale)

    def block(self, model: Diffusion, requests: list[int]) -> Diffusion:
        """The model for these requests, conditioned on their prompts."""
        part = (model.with_requests(conditions=Conditions(), prompts=()) if self.positive else model).select(requests)
        if self.positive is None:
            return part
        negative = None if self.negative is None else [self.negative[i] for i in requests]
        return part.prompted([self.positive[i] for i in requests], self.guidance, negative, self.rescale)

    def checked(self, model: Diffusion) -> Diffusion:
        """The model with the prompts of all requests; the first distinct prompts are encoded to find errors early.

        Raises:
            GuidedError: The model takes no prompts, or not one of these.
        """
        if self.positive is None:
            return model
        negative = self.negative or [None] * len(self.positive)
        first = {pair: i for i, pair in reversed([*enumerate(zip(self.positive, negative, strict=True))])}
        _check_guided(model, any(self.positive) or self.negative is not None)
        distinct, part, bare = sorted(first.values())[:CHECKED], model, model.with_requests(editing=None)
        for i in range(0, len(distinct), ENCODED_AT_ONCE):
            part = self.block(bare, distinct[i : i + ENCODED_AT_ONCE])
        return part.with_requests(prompts=tuple(prompt or "" for prompt in self.positive), conditions=Conditions())


def _check_guided(model: Diffusion, prompted: bool) -> None:
    """Names the negative checkpoint that is shipped for an unconditional model, if guidance is all that is wanted."""
    prompting = model.prompting
    if prompted or prompting.conditional or prompting.negative:
        return
    if model.name in {path.name for path in NEGATIVES.iterdir()}:
        option = spelled("negative")
        give = f"negative={model.name!r}" if option == "negative" else f"{option} {model.name}"
        raise GuidedError(
            f"{model.name} takes no prompt and no guidance: it is unconditional; for guidance, give a negative "
            f"checkpoint ({give})"
        )


def _each(what: str, prompt: str | Sequence[str], n: int) -> list[str | None]:
    prompts: list[str | None] = [prompt] * n if isinstance(prompt, str) else list(prompt)
    if len(prompts) != n:
        raise GuidedError(f"there are {len(prompts)} {what} for {n} samples; give one, or one for each")
    return prompts
