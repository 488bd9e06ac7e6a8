"""The arguments of a pipeline of text: those of its call, checked by the pipeline, as a process."""

__all__ = ["TextCall"]

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from guided.core.blocks import Blocks, Commits
from guided.core.process import check_steps
from guided.errors import GuidedError, check_number, kind_of, nearest, shown

#: The arguments that are set here, and what a user gives instead.
OURS = {
    **dict.fromkeys(("prompt", "messages", "input_ids", "attention_mask"), "give prompt"),
    "generator": "give seed",
    "output_type": "samples are texts",
    "return_dict": "samples are texts",
    "callback_on_step_end": "a run has progress instead",
    "callback_on_step_end_tensor_inputs": "a run has progress instead",
}
WHOLE = ("gen_length", "block_length", "num_inference_steps", "minimal_topk", "max_post_steps")
SWITCHES = ("use_chat_template", "add_generation_prompt", "eos_early_stop")


@dataclass(frozen=True)
class TextCall:
    """How a pipeline is called.

    Args:
        pipeline: Of diffusers, on its device.
        given: Arguments of its call by name.

    Raises:
        GuidedError: An argument is unknown, not one for the user, or not accepted by the pipeline.
    """

    pipeline: Any
    given: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name, known = type(self.pipeline).__name__, [other for other in self.defaults if other not in OURS]
        if not isinstance(self.given, Mapping):
            raise GuidedError(f"pipe_args is {kind_of(self.given)}; it must be a mapping from names to arguments")
        for key in self.given:
            if key in OURS:
                raise GuidedError(f"{name} is given {key} by pipe_args; {OURS[key]}")
            if key not in known:
                raise GuidedError(
                    f"{name} has no argument {key!r}{nearest(key, known)}; pipe_args are {', '.join(known)}"
                )
        for key in WHOLE:
            check_number(key, self[key], int, least=0 if key == "max_post_steps" else 1)
        for key in ("temperature", "threshold"):
            check_number(key, self[key], float, least=0)
        for key, number in (("top_k", int), ("top_p", float), ("editing_threshold", float)):
            if self[key] is not None:
                check_number(key, self[key], number)
        for key in SWITCHES:
            if not isinstance(self[key], bool):
                raise GuidedError(f"{key} is {shown(self[key])}; it must be true or false")
        self._check()

    def _check(self) -> None:
        """Checks what the pipeline checks, with a prompt of one token."""
        asked = inspect.signature(self.pipeline.check_inputs).parameters
        values = {name: self[name] for name in asked} | {"input_ids": torch.zeros(1, 1, dtype=torch.long, device="cpu")}
        try:
            self.pipeline.check_inputs(**values)
        except (ValueError, TypeError) as error:
            text = " ".join(str(error).replace("`", "").split())
            raise GuidedError(f"{type(self.pipeline).__name__}: {text}") from error

    @property
    def defaults(self) -> dict[str, Any]:
        """The arguments of the pipeline's call with their defaults."""
        found = inspect.signature(inspect.unwrap(type(self.pipeline).__call__)).parameters
        return {name: p.default for name, p in found.items() if name != "self"}

    def __getitem__(self, name: str) -> Any:
        """An argument, or its default."""
        value = self.given.get(name, self.defaults.get(name))
        own = {
            "block_length": self.pipeline.scheduler.config.get("block_length"),
            "eos_token_id": getattr(self.pipeline, "eos_token_id", None),
            "mask_token_id": getattr(self.pipeline, "mask_token_id", None),
        }
        return own.get(name) if value is None else value

    @property
    def mask(self) -> int:
        """The number of the mask in the pipeline's vocabulary.

        Raises:
            GuidedError: There is none.
        """
        if self["mask_token_id"] is None:
            raise GuidedError(
                f"{type(self.pipeline).__name__} has no mask: its tokenizer has no mask token, and pipe_args no "
                "mask_token_id"
            )
        return check_number("mask_token_id", self["mask_token_id"], int, least=0)

    @property
    def greedy(self) -> bool:
        """Whether tokens are the likeliest."""
        return self["temperature"] == 0 or self["sampling_method"] == "greedy"

    @property
    def commits(self) -> Commits:
        """How tokens are drawn, and which of them count."""
        asked, edits = self["editing_threshold"], self.pipeline.scheduler.config.get("editing_threshold")
        if asked is None:  # the pipeline looks once more at a full block, by its scheduler's threshold
            after = 1 if edits and edits > 0 else 0
        else:
            edits, after = asked, 0 if asked <= 0 else int(self["max_post_steps"]) + 1
        return Commits(
            temperature=0.0 if self.greedy else float(self["temperature"]),
            top_k=int(self["top_k"] or 0),
            top_p=min(1.0, 1.0 if self["top_p"] is None else check_number("top_p", self["top_p"], float, above=0)),
            threshold=float(self["threshold"]),
            editing=max(0.0, float(edits or 0)),
            after=after,
            end=self["eos_token_id"] if self["eos_early_stop"] else None,
        )

    def process(self, vocabulary: int, steps: int | None, whole: bool) -> Blocks:
        """The process.

        Args:
            vocabulary: The number of tokens that the network predicts.
            steps: The number of steps `K`; None for as many as the pipeline can take.
            whole: Whether look-aheads are filled to the end.

        Raises:
            GuidedError: The steps are given twice, too few, or fewer than `minimal_topk` lets them be.
        """
        if steps is not None and "num_inference_steps" in self.given:
            raise GuidedError("steps is given, and num_inference_steps, the steps of a block, by pipe_args; give one")
        length, least = int(self["gen_length"]), int(self["minimal_topk"])
        taken = min(int(self["num_inference_steps"]), length // least)
        if taken < 1:
            raise GuidedError(f"gen_length is {length} and minimal_topk {least}; it must be at most gen_length")
        process = Blocks(length, vocabulary, int(self["block_length"]), taken, self.commits, whole)
        return process if steps is None else process.with_steps(check_steps(steps))
