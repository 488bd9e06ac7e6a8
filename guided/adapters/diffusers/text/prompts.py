"""Prompts as tokens, by the pipeline's tokenizer and chat template."""

__all__ = ["Table"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from guided.adapters.diffusers.text.call import TextCall
from guided.errors import GuidedError


@dataclass
class Table:
    """The prompts of a model, each with a number, which is its condition.

    Args:
        call: How the pipeline is called.
        device: Where numbers and tokens are.
        tokens: The tokens of each prompt, with shape `(P,)`; the first is no prompt at all.
    """

    call: TextCall
    device: torch.device = torch.device("cpu")
    tokens: list[Tensor] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens.append(torch.zeros(0, dtype=torch.long, device=self.device))

    def __call__(self, prompts: Sequence[str | None]) -> dict[str, Tensor]:
        """The numbers of prompts, with shape `(n,)`."""
        for prompt in prompts:
            if (prompt or "") not in self.numbers:
                self.tokens.append(self._encoded(prompt or ""))
                self.numbers[prompt or ""] = len(self.tokens) - 1
        return {"prompt": torch.tensor([self.numbers[prompt or ""] for prompt in prompts], device=self.device)}

    def lengths(self, conditions: Mapping[str, Tensor], n: int) -> Tensor:
        """The number of tokens of the prompts of `n` requests, with shape `(n,)`; 0 where they have none."""
        numbers = conditions["prompt"].tolist() if "prompt" in conditions else [0] * n
        return torch.tensor([len(self.tokens[i]) for i in numbers], dtype=torch.long, device=self.device)

    def _encoded(self, prompt: str) -> Tensor:
        pipeline, call = self.call.pipeline, self.call
        if pipeline.tokenizer is None and not prompt:
            return self.tokens[0]
        try:
            ids, _ = pipeline._prepare_input_ids(
                prompt=prompt,
                messages=None,
                input_ids=None,
                use_chat_template=bool(call["use_chat_template"]),
                add_generation_prompt=bool(call["add_generation_prompt"]),
                chat_template_kwargs=None,
            )
        except (ValueError, TypeError) as error:
            text = " ".join(str(error).replace("`", "").split())
            raise GuidedError(f"{type(pipeline).__name__} cannot read the prompt {prompt[:80]!r}: {text}") from error
        return ids.reshape(-1).long().to(self.device)
