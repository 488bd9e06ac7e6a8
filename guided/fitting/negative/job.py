"""The training of a negative checkpoint from the model's own samples.

The folder:

    config.json      the card: base, method, hyperparameters, seeds, versions; at the end also the cost
    pytorch_lora_weights.safetensors, or (diffusion_pytorch_)model.safetensors
    README.md        the card as Markdown
    history.csv      step, loss
    samples/         the model's own samples, in blocks
    sheets/          samples during training
    training/        the state of an unfinished training
"""

__all__ = ["NegativeTraining", "train_negative"]

import csv
import io
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from guided.core.diffusion import Diffusion
from guided.core.monitor import Progress, check_progress
from guided.errors import GuidedError
from guided.fitting.job import Job
from guided.fitting.negative.card import ENDS, describe
from guided.fitting.negative.config import NegativeTraining
from guided.fitting.negative.dataset import draw_dataset
from guided.fitting.negative.dpo import FlippedDPO, pairs_of
from guided.fitting.negative.self_npo import SelfNPO
from guided.fitting.negative.sheets import write_sheet
from guided.fitting.negative.trainer import Trainer, student_of
from guided.fitting.state import STATE
from guided.loading import load
from guided.negatives.fingerprint import fingerprint
from guided.negatives.lora import check_lora, lora_weights
from guided.negatives.weights import FULL, FULL_PART, LORA
from guided.runs.paths import full
from guided.runs.prompts import Prompts
from guided.runs.versions import versions
from guided.scoring.objective import Objective, resolve_reward
from guided.settings import torch_defaults
from guided.storage import write_tensors, write_whole

VERSIONS = ("torch", "accelerate", "diffusers", "peft")


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
    workers: int = 0,
    cache: str | Path | None = None,
    trust_rewards: bool = False,
    progress: Callable[[Progress], None] = lambda state: None,
) -> Path:
    """Trains a negative checkpoint from a model's own samples; the same call resumes a training that was stopped.

    Args:
        model: The model, or what :func:`guided.load` takes.
        out: The folder.
        reward: With a reward, the checkpoint is trained against it (flipped DPO); without one, by Self-NPO, which needs
            neither data nor labels.
        method: The hyperparameters, as :class:`SelfNPO`, or :class:`FlippedDPO` with a reward.
        training: Learning rate, number of samples and so on.
        prompts: The prompts of the samples of a conditional model, taken in turn; None for the model's own prompts.
        guidance: The weight of classifier-free guidance of the samples; None for the model's own.
        aggregate: How several rewards are combined.
        workers: How many workers score the samples side by side; 0 for none.
        cache: A folder in which scores are kept, for other runs too; None for no cache.
        trust_rewards: Whether a folder is resumed even if its reward cannot be checked to be the same.
        progress: Called often.

    Returns:
        The folder.

    Raises:
        GuidedError: The model takes no negative checkpoint, prompts or a reward are missing or too many, or the folder
            holds another one.
        ImportError: accelerate or peft is not installed.
    """
    check_progress(progress)
    method = method or (SelfNPO() if reward is None else FlippedDPO())
    if method.pairs != (reward is not None):
        what = "needs a reward, to rank the samples" if method.pairs else "takes no reward"
        raise GuidedError(f"{method.name} {what}")
    model = model if isinstance(model, Diffusion) else load(model)
    job = NegativeJob(
        out=full(out),
        progress=progress,
        model=model,
        method=method,
        training=training or NegativeTraining(),
        prompts=_prompts(model, prompts, guidance),
        guidance=guidance,
        objective=None
        if reward is None
        else resolve_reward(reward, aggregate=aggregate, workers=workers, cache=cache, trust_rewards=trust_rewards),
        trust_rewards=trust_rewards,
    )
    try:
        job.run()
    finally:
        if job.objective is not None and job.objective is not reward:
            job.objective.close()
    return job.out


def _prompts(model: Diffusion, prompts: Sequence[str] | None, guidance: float | None) -> list[str]:
    model.trainable()
    if model.prompting.negative is not None:
        raise GuidedError(f"{model.name} has a negative side already; train from the model without it")
    if model.prompting.guider is not None:
        raise GuidedError(f"{model.name} has a guider; train from the model without it")
    if model.process.fixed is not None or model.requests.editing is not None:
        raise GuidedError(f"{model.name} has pinned tokens or starts from a sample; train from the model without them")
    if not model.prompting.conditional:
        if prompts or guidance is not None:
            raise GuidedError(f"{model.name} takes no {'prompts' if prompts else 'guidance'}: it is unconditional")
        return []
    prompts = list(prompts) if prompts else list(model.prompting.examples)
    if not prompts:
        raise GuidedError(
            f"{model.name} takes prompts: give some that describe its samples, in a file with one per line"
        )
    return prompts


@dataclass(frozen=True, kw_only=True)
class NegativeJob(Job):
    """The training of a negative checkpoint.

    Args:
        model: The model.
        method: The method and its hyperparameters.
        training: Learning rate, number of samples and so on.
        prompts: The prompts of the samples, taken in turn; empty for an unconditional model.
        guidance: The weight of classifier-free guidance of the samples; None for the model's own.
        objective: The reward; None for Self-NPO.
    """

    model: Diffusion
    method: SelfNPO | FlippedDPO
    training: NegativeTraining
    prompts: list[str]
    guidance: float | None
    objective: Objective | None

    what: ClassVar[str] = "another negative checkpoint"

    @cached_property
    def accelerator(self) -> Any:
        """The Accelerator of accelerate, on the model's device."""
        return _accelerator(self.training, self.model)

    @property
    def config(self) -> dict[str, Any]:
        """All that the checkpoint depends on, JSON-able."""
        training = asdict(
            replace(self.training, lora=self.training.rank(self.model), lr=self.training.rate(self.model))
        )
        training.pop("accumulate")  # it changes only rounding
        return {
            "kind": "negative",
            "base": {"name": self.model.name, "network": fingerprint(self.model.trainable().bare)},
            "method": {"name": self.method.name, **asdict(self.method)},
            "data": "the model's own samples" + (", ranked by a reward" if self.objective else ""),
            "reward": None if self.objective is None else self.objective.identity,
            "training": training,
            "samples": {"steps": self.model.steps, "guidance": self.guidance, "prompts": self.prompts},
            "model": {"identity": self.model.identity, **self.model.process.distribution},
        }

    @property
    def each(self) -> list[str] | None:
        """The prompt of each sample."""
        return [self.prompts[i % len(self.prompts)] for i in range(self.training.n)] if self.prompts else None

    @property
    def wanted(self) -> Prompts:
        """The prompts of the samples."""
        return Prompts.of(self.model, self.training.n, self.each, guidance=self.guidance)

    def check(self) -> None:
        """Checks the arguments, before the folder is made and anything is drawn.

        Raises:
            GuidedError: The reward is for another modality, a prompt is unknown, or there are no such noise levels, no
                pairs, or no layers for LoRA weights.
        """
        if not self.model.differentiable:
            what = f"{self.model.name} by its own loop cannot be trained: no gradients go through a loop"
            raise GuidedError(f"{what}; its class, if it has one, can (loop=false)")
        if self.objective is not None:
            self.objective.check(self.model.modality)
        self.wanted.checked(self.model)
        self.method.check(self.model.process)
        if self.method.pairs and self.training.n <= len(self.prompts):
            raise GuidedError(
                f"n is {self.training.n} for {len(self.prompts)} prompts, and a pair takes two samples of a prompt; "
                f"give at least {2 * len(self.prompts)}"
            )
        if self.training.rank(self.model):
            check_lora(self.model.trainable().bare)

    def locked(self) -> AbstractContextManager[None]:
        """Keeps other jobs out of the folder; of several processes, the main one holds the lock."""
        return super().locked() if self.accelerator.is_main_process else nullcontext()

    def claimed(self) -> dict[str, Any]:
        """The configuration in the folder, which the main process writes."""
        with self.accelerator.main_process_first():  # or several would write the same file
            return super().claimed()

    def work(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """Draws the samples, trains the checkpoint and writes the files."""
        return self._trained(*self.data(), config)

    @torch_defaults()
    def _trained(self, x: Tensor, prompts: list[str | None], config: dict[str, Any]) -> dict[str, Any] | None:
        """Trains the checkpoint on rows, or pairs of rows, with a prompt for each, and writes the files."""
        drawn, main = time.perf_counter() - self.start, self.accelerator.is_main_process
        student = student_of(self.model, self.training)
        trainer = Trainer(self.model, student, self.method, self.training, x, prompts, self.accelerator)
        report = self.reporter("updates", self.training.steps)

        def sheet(done: int) -> None:
            stem, every = self.out / "sheets" / f"{done:06d}", self.training.sheet
            if every and done % every == 0 and main and not any(stem.parent.glob(f"{stem.name}.[a-z]*")):
                write_sheet(self.model, trainer, self.prompts, stem)

        def step(done: int, loss: float) -> None:
            report(done, loss)
            sheet(done)

        trainer.run(self.out / STATE, step, sheet)
        metrics = self.finish(trainer, config, drawn) if main else None
        self.accelerator.wait_for_everyone()
        return None if metrics is None else {"metrics": metrics}

    def data(self) -> tuple[Tensor, list[str | None]]:
        """Rows, or pairs of rows, with a prompt for each."""
        n, training = self.training.n, self.training
        numbers, folder = (n, training.seed, training.batch_size), self.out / "samples"
        with self.accelerator.main_process_first():  # the main process draws; the others read
            report = self.reporter("samples", n)
            dataset = draw_dataset(self.model, self.wanted, *numbers, folder, self.objective, report)
        each: list[str | None] = [None] * n if self.each is None else list(self.each)
        if not self.method.pairs:
            return dataset.x, each
        groups = [i % len(self.prompts) if self.prompts else 0 for i in range(n)]
        pairs = pairs_of(dataset.rewards, groups)
        return dataset.x[pairs], [each[i] for i in pairs[:, 0].tolist()]

    def finish(self, trainer: Trainer, config: dict[str, Any], drawn: float) -> dict[str, Any]:
        """Writes the weights and the card; returns the metrics."""
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
        return metrics


def save(student: nn.Module, out: Path, part: str, lora: bool) -> None:
    """Writes the weights of a student in half precision: LoRA weights, or all."""
    weights = lora_weights(student, part) if lora else student.state_dict()
    file = out / (LORA if lora else FULL_PART if part else FULL)
    small = {name for name, w in weights.items() if w.dtype == torch.float32 and w.abs().max() < 6e4}
    write_tensors(file, {name: w.half() if name in small else w for name, w in weights.items()}, {"format": "pt"})


def _accelerator(training: NegativeTraining, model: Diffusion) -> Any:
    """The Accelerator of accelerate, on the model's device."""
    try:
        from accelerate import Accelerator
        from accelerate.utils import GradientAccumulationPlugin
    except ImportError as error:
        raise ImportError("training needs accelerate: pip install guided") from error
    try:
        whole = GradientAccumulationPlugin(num_steps=1)  # batches are split here, whatever the environment says
        cpu = model.device.type == "cpu"
        return Accelerator(mixed_precision=training.precision, cpu=cpu, gradient_accumulation_plugin=whole)
    except ValueError as error:  # accelerate has one precision and one device per process
        raise GuidedError(f"accelerate was set up for something else in this process; use another ({error})") from error
