"""A negative checkpoint from its model alone: samples, updates, the files.

The folder:

    config.json      the card: base, method, letters, seeds, versions; at the end, what it took
    pytorch_lora_weights.safetensors, or (diffusion_pytorch_)model.safetensors
    README.md        the card in words
    history.csv      step, loss
    samples/         the model's own samples, block by block
    sheets/          samples during training
    training/        the state of a training under way
"""

__all__ = ["NegativeProgress", "NegativeTraining", "train_negative"]

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.errors import GuidedError
from guided.fitting.negative.card import ENDS, describe
from guided.fitting.negative.dpo import FlippedDPO, pairs_of
from guided.fitting.negative.pool import draw_pool
from guided.fitting.negative.self_npo import SelfNPO
from guided.fitting.negative.sheets import write_sheet
from guided.fitting.negative.trainer import NegativeTraining, Trainer, student_of
from guided.fitting.state import STATE, drop_state
from guided.loading import load
from guided.negatives.fingerprint import describe_base
from guided.negatives.lora import check_lora, lora_weights
from guided.negatives.weights import FULL, FULL_PART, LORA
from guided.runs.prompts import Prompts
from guided.runs.versions import versions
from guided.scoring.objective import Objective, resolve_reward
from guided.storage import claim, write_json, write_tensors, write_whole

VERSIONS = ("torch", "accelerate", "diffusers", "peft")


@dataclass(frozen=True)
class NegativeProgress:
    """How far a training is: the stage ("samples" or "updates"), how much of it is done, the mean loss of the last
    updates (nan before the first), and seconds since the start.
    """

    stage: str
    done: int
    total: int
    loss: float
    seconds: float


def train_negative(
    model: Any,
    out: str | Path,
    *,
    reward: Any = None,
    method: SelfNPO | FlippedDPO | None = None,
    training: NegativeTraining | None = None,
    prompts: Sequence[str] | None = None,
    guidance: float | None = None,
    aggregate: str = "mean",
    progress: Callable[[NegativeProgress], None] = lambda state: None,
) -> Path:
    """Trains a negative checkpoint from a model's own samples; the same call again goes on.

    Arguments:
        model: The model, or what :func:`guided.load` takes.
        out: The folder.
        reward: With a reward, the checkpoint learns what it does not like (flipped DPO); without, Self-NPO, which
            needs neither data nor labels.
        method: The letters of :class:`SelfNPO`, or of :class:`FlippedDPO` with a reward.
        training: How it is trained.
        prompts: Of a conditional model: what its samples show, in turns; None for those that the model knows.
        guidance: The weight of classifier-free guidance of the samples; None for the model's own.
        aggregate: How several rewards become one.
        progress: Told how far it is.

    Returns:
        The folder.

    Raises:
        ValueError: The model takes no negative checkpoint, prompts or a reward are missing or too many, or the folder
            holds another one.
        ImportError: accelerate or peft is not installed.
    """
    method = method or (SelfNPO() if reward is None else FlippedDPO())
    if method.pairs != (reward is not None):
        what = "needs a reward, to rank the samples" if method.pairs else "takes no reward"
        raise GuidedError(f"{method.name} {what}")
    model = model if isinstance(model, Diffusion) else load(model)
    told = _prompts(model, prompts, guidance)
    objective = None if reward is None else resolve_reward(reward, aggregate=aggregate)
    if objective is not None:
        objective.check(model.modality)
    job = Job(model, Path(out), method, training or NegativeTraining(), told, guidance, objective)
    return job.run(progress)


def _prompts(model: Diffusion, prompts: Sequence[str] | None, guidance: float | None) -> list[str]:
    model.trainable()
    if model.prompting.negative is not None:
        raise GuidedError(f"{model.name} has a negative side already; train from the model without it")
    if model.process.fixed is not None or model.requests.editing is not None:
        raise GuidedError(f"{model.name} has pinned tokens or starts from a sample; train from the model without them")
    if not model.prompting.conditional:
        if prompts or guidance is not None:
            raise GuidedError(f"{model.name} takes no {'prompts' if prompts else 'guidance'}: it is unconditional")
        return []
    prompts = list(prompts) if prompts else list(model.prompting.examples)
    if not prompts:
        raise GuidedError(f"{model.name} takes prompts: give some of what it shall show, in a file with one a line")
    return prompts


@dataclass(frozen=True)
class Job:
    """A training that is to be done, or to be gone on with."""

    model: Diffusion
    out: Path
    method: SelfNPO | FlippedDPO
    training: NegativeTraining
    prompts: list[str]
    guidance: float | None
    objective: Objective | None

    @property
    def config(self) -> dict[str, Any]:
        """What decides the checkpoint, JSON-able."""
        training = asdict(
            replace(self.training, lora=self.training.rank(self.model), lr=self.training.rate(self.model))
        )
        training.pop("accumulate")  # which changes nothing but rounding
        return {
            "kind": "negative",
            "base": {"name": self.model.name, "network": describe_base(self.model.trainable().bare)},
            "method": {"name": self.method.name, **asdict(self.method)},
            "data": "the model's own samples" + (", ranked by a reward" if self.objective else ""),
            "reward": None if self.objective is None else self.objective.identity,
            "training": training,
            "samples": {"steps": self.model.steps, "guidance": self.guidance, "prompts": self.prompts},
            "model": {"identity": self.model.identity, **_law(self.model.process)},
        }

    @property
    def told(self) -> list[str] | None:
        """The prompt of each sample."""
        return [self.prompts[i % len(self.prompts)] for i in range(self.training.n)] if self.prompts else None

    @property
    def wanted(self) -> Prompts:
        """What the samples are drawn for."""
        return Prompts.of(self.model, self.training.n, self.told, guidance=self.guidance)

    def check(self) -> None:
        """Says what cannot be trained before the folder is taken and anything is drawn.

        Raises:
            ValueError: A prompt is unknown, or there are no such levels, no pairs, or no layers for LoRA weights.
        """
        self.wanted.checked(self.model)
        self.method.check(self.model.process)
        if self.method.pairs and self.training.n <= len(self.prompts):
            raise GuidedError(
                f"n is {self.training.n} for {len(self.prompts)} prompts, and a pair takes two samples of a prompt; "
                f"give at least {2 * len(self.prompts)}"
            )
        if self.training.rank(self.model):
            check_lora(self.model.trainable().bare)

    def run(self, progress: Callable[[NegativeProgress], None]) -> Path:
        """Does what is left to do."""
        self.check()
        accelerator = _accelerator(self.training, self.model)
        with accelerator.main_process_first():  # or several would write the same file
            config = claim(self.out, "config.json", self.config, "another negative checkpoint")
        if "metrics" in config:
            return self.out
        start = time.perf_counter()

        def told(stage: str, total: int) -> Callable[..., None]:
            def tell(done: int, loss: float = math.nan) -> None:
                progress(NegativeProgress(stage, done, total, loss, time.perf_counter() - start))

            return tell

        x, prompts = self.data(accelerator, told("samples", self.training.n))
        drawn = time.perf_counter() - start
        student = student_of(self.model, self.training)
        trainer = Trainer(self.model, student, self.method, self.training, x, prompts, accelerator)
        tell = told("updates", self.training.steps)

        def step(done: int, loss: float) -> None:
            tell(done, loss)
            if self.training.sheet and done % self.training.sheet == 0 and accelerator.is_main_process:
                write_sheet(self.model, trainer, self.prompts, self.out / "sheets" / f"{done:06d}")

        trainer.run(self.out / STATE, step)
        if accelerator.is_main_process:
            self.finish(trainer, config, drawn)
        accelerator.wait_for_everyone()
        return self.out

    def data(self, accelerator: Any, progress: Callable[[int], None]) -> tuple[Tensor, list[str | None]]:
        """Rows, or pairs of rows, with a prompt for each."""
        n, training, told = self.training.n, self.training, self.told
        numbers, folder = (n, training.seed, training.batch_size), self.out / "samples"
        with accelerator.main_process_first():  # which draws; the others read
            pool = draw_pool(self.model, self.wanted, *numbers, folder, self.objective, progress)
        each: list[str | None] = list(told) if told else [None] * n
        if not self.method.pairs:
            return pool.x, each
        groups = [i % len(self.prompts) if self.prompts else 0 for i in range(n)]
        pairs = pairs_of(pool.rewards, groups)
        return pool.x[pairs], [each[i] for i in pairs[:, 0].tolist()]

    def finish(self, trainer: Trainer, config: dict[str, Any], drawn: float) -> None:
        """Writes the weights and the card, and drops what was for resuming."""
        lines = io.StringIO()
        csv.writer(lines).writerows([("step", "loss"), *trainer.history])
        write_whole(self.out / "history.csv", lines.getvalue())
        save(trainer.averaged(), self.out, self.model.trainable().part, self.training.rank(self.model) > 0)
        losses = [loss for _, loss in trainer.history]
        metrics = {
            "steps": trainer.loop.step,
            "rows": trainer.loop.step * self.training.batch,
            "seconds": round(trainer.loop.seconds, 1),
            "seconds of samples": round(drawn, 1),
            "first loss": sum(losses[:ENDS]) / len(losses[:ENDS]),
            "last loss": sum(losses[-ENDS:]) / len(losses[-ENDS:]),
            "versions": versions(VERSIONS),
        }
        write_whole(self.out / "README.md", describe(config, metrics))
        write_json(self.out / "config.json", {**config, "metrics": metrics})
        drop_state(self.out / STATE)


def _law(process: Any) -> dict[str, Any]:
    """What decides the samples of a process beside its steps, JSON-able."""
    if isinstance(process, Masked):
        return {"schedule": process.schedule, "temperature": process.temperature}
    grid = hashlib.sha256(json.dumps([process.alphas, process.sigmas, process.times]).encode()).hexdigest()
    return {"grid": grid[:16], "eta": process.eta, "clip": process.clip}


def save(student: nn.Module, out: Path, part: str, lora: bool) -> None:
    """Writes the weights of a student in half precision: LoRA weights, or all."""
    weights = lora_weights(student, part) if lora else student.state_dict()
    file = out / (LORA if lora else FULL_PART if part else FULL)
    small = {name for name, w in weights.items() if w.dtype == torch.float32 and w.abs().max() < 6e4}
    write_tensors(file, {name: w.half() if name in small else w for name, w in weights.items()}, {"format": "pt"})


def _accelerator(training: NegativeTraining, model: Diffusion) -> Any:
    """Of accelerate, on the model's device."""
    try:
        from accelerate import Accelerator
        from accelerate.utils import GradientAccumulationPlugin
    except ImportError as error:
        raise ImportError("training needs accelerate: pip install guided") from error
    try:
        whole = GradientAccumulationPlugin(num_steps=1)  # batches are split here, whatever the environment says
        cpu = model.device.type == "cpu"
        return Accelerator(mixed_precision=training.precision, cpu=cpu, gradient_accumulation_plugin=whole)
    except ValueError as error:  # it has one precision and one device for all of a process
        raise GuidedError(f"accelerate was set up for something else in this process; use another ({error})") from error
