"""The updates of a negative checkpoint. Random numbers depend only on the seed, the step and the row."""

__all__ = ["Trainer"]

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guided.core.denoiser import Denoiser
from guided.core.diffusion import Diffusion
from guided.core.guidance import Conditions, Guided
from guided.core.random import Streams
from guided.errors import GuidedError, check_number
from guided.fitting.loop import Loop, decaying, warm_up
from guided.fitting.negative.config import NegativeTraining
from guided.fitting.negative.dpo import FlippedDPO
from guided.fitting.negative.self_npo import SelfNPO
from guided.fitting.state import check_history, intact
from guided.fitting.value.fit import seeded
from guided.negatives.lora import add_lora

SAVING = 30.0  # seconds between two saved states
RECENT = 50  # the number of updates over which the reported loss is averaged


class Trainer:
    """Trains a student.

    Args:
        model: The model, without a negative side and without prompts.
        student: Its network, with trainable weights.
        method: The method and its hyperparameters.
        training: Learning rate, batch and so on.
        x: Clean rows, with shape `(m, *event)`, or pairs of them, `(m, 2, *event)`.
        prompts: The prompt of each; None for none.
        accelerator: The Accelerator of accelerate.
    """

    def __init__(
        self,
        model: Diffusion,
        student: nn.Module,
        method: SelfNPO | FlippedDPO,
        training: NegativeTraining,
        x: Tensor,
        prompts: list[str | None],
        accelerator: Any,
    ) -> None:
        self.model, self.method, self.training, self.accelerator = model, method, training, accelerator
        self.x, self.prompts, self.student = x, prompts, student
        self.denoiser, self.teacher = model.trainable().around(student), teacher_of(model, method.w)
        rate = training.rate(model)
        trained = [p for p in student.parameters() if p.requires_grad]
        optimizer = accelerator.prepare(torch.optim.AdamW(trained, rate, weight_decay=training.weight_decay))
        self.loop = Loop(
            student,
            [optimizer],
            rate=lambda update, progress: rate * warm_up(update, training.warmup + 1),
            share=decaying(training.ema),
            clip=training.clip,
            processes=accelerator,
            more=lambda: {"history": self.history},
        )
        self.weights, self.average = self.loop.weights, self.loop.average
        self.history: list[tuple[int, float]] = []

    def run(
        self,
        folder: Path,
        progress: Callable[[int, float], None] = lambda step, loss: None,
        resumed: Callable[[int], None] = lambda step: None,
    ) -> None:
        """Makes the updates that are left.

        Args:
            folder: The folder of the training's state; if there is one, the training is resumed.
            progress: Called after each update with the number of updates and the mean of the recent losses.
            resumed: Called with the number of updates of a state, after which a kill may have left out `progress`.
        """
        state = self.loop.load(folder)
        if state is not None:
            with intact(folder):
                check_number("step", self.loop.step, int, most=self.training.steps)
                self.history = check_history(state["history"], self.loop.step)
                if len(self.history) != self.loop.step:
                    raise GuidedError(f"history has {len(self.history)} updates; it must have {self.loop.step}")

        def report() -> None:
            recent = [value for _, value in self.history[-RECENT:]]
            progress(self.loop.step, sum(recent) / len(recent))

        if self.history:
            resumed(self.loop.step)
        for _ in self.loop.run(folder, updates=self.training.steps, due=lambda s: s >= SAVING, progress=report):
            loss = self.loop.update(self._parts())
            self.history.append((self.loop.step, loss))

    def _parts(self) -> Iterator[Tensor]:
        """The losses of the parts of this process's rows of a batch, which add up to the mean over the whole batch."""
        training = self.training
        mine = list(range(self.accelerator.process_index, training.batch, self.accelerator.num_processes))
        size = max(1, -(-len(mine) // training.accumulate))
        for i in range(0, len(mine), size):
            yield self._losses(mine[i : i + size]).sum() / training.batch

    def _losses(self, rows: list[int]) -> Tensor:
        """The losses of these rows of the batch. Each row has its own random stream."""
        keys = [self.loop.step * self.training.batch + row for row in rows]
        streams = Streams(self.training.seed, keys, self.model.device, "training")
        index = (streams.uniform().cpu().double() * len(self.x)).long().clamp(max=len(self.x) - 1)
        x = self.x[index].to(self.model.device)
        cond = conditions(self.model, [self.prompts[i] for i in index.tolist()])
        with self.accelerator.autocast():
            return self.method.losses(self.model.process, self.denoiser, self.teacher, x, cond, streams)

    def averaged(self) -> nn.Module:
        """The student with the running average as its weights."""
        with torch.no_grad():
            for name, p in self.weights.items():
                p.copy_(self.average[name])
        return self.student


def conditions(model: Diffusion, prompts: list[str | None]) -> Conditions:
    """The conditions of rows with these prompts; the negative side has no prompt."""
    prompting = model.prompting
    if not prompting.conditional:
        return Conditions()
    none = prompting.unconditional
    with torch.no_grad():
        positive = prompting.conditions([none if p is None else p for p in prompts])
        return Conditions(positive, prompting.conditions([none] * len(prompts)))


def teacher_of(model: Diffusion, w: float) -> Denoiser:
    """The frozen model, guided with a weight of `w`; at 0 and 1 only one side is evaluated."""
    guided = Guided(model.denoiser, w)

    def teacher(x: Tensor, t: Tensor, negative: Mapping[str, Tensor] | None = None, /, **cond: Tensor) -> Tensor:
        if not cond or w == 1:
            return model.denoiser(x, t, **cond)
        return model.denoiser(x, t, **(negative or cond)) if w == 0 else guided(x, t, negative, **cond)

    return teacher


def student_of(model: Diffusion, training: NegativeTraining) -> nn.Module:
    """A network to train: with LoRA weights on a view of the model's, or a full copy of it in single precision."""
    network = model.trainable().bare
    with seeded(training.seed, model.device):
        rank = training.rank(model)
        if rank:
            return add_lora(network, rank).eval()
        return copy.deepcopy(network).float().requires_grad_(True).eval()
