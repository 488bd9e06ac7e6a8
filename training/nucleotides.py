"""The training of nucleotide models (DNA, RNA) on labelled sequences."""

__all__ = ["Dataset", "Plan", "export", "fit"]

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from guided.nets.convolution import TokenConvolution
from guided.storage import write_tensors, write_whole
from training.trainer import Trainer, any_order_loss, averaged_weights, processes_on

NONE = 0  # the label for none


@dataclass(frozen=True)
class Dataset:
    """Sequences of one length over ACGT with a label each.

    Attributes:
        sequences: The sequences, as text.
        labels: Labels from 1 on, with shape `(n,)`; 0 is the label "none".
    """

    sequences: Sequence[str]
    labels: NDArray[np.int64]

    @property
    def tokens(self) -> torch.Tensor:
        """Tokens with shape `(n, L)`: A, C, G, T are 0 to 3."""
        codes = np.frombuffer("".join(self.sequences).encode(), dtype=np.uint8).reshape(len(self.sequences), -1)
        return torch.from_numpy(np.searchsorted(np.frombuffer(b"ACGT", dtype=np.uint8), codes).astype(np.int64))

    def select(self, kept: NDArray[np.bool_]) -> "Dataset":
        return Dataset([s for s, keep in zip(self.sequences, kept, strict=True) if keep], self.labels[kept])


@dataclass(frozen=True)
class Plan:
    """How a nucleotide model is trained.

    Attributes:
        minutes: The time, over all sessions.
        batch: The number of sequences per update.
        lr: The learning rate.
        unlabelled: The share of sequences whose label is hidden, for classifier-free guidance.
        reverse: Whether every other sequence is replaced by its reverse complement (DNA has two strands, RNA one).
        device: cpu, cuda, mps, or auto.
        accumulate: The number of parts that a batch is split into, to save memory.
        compiled: Whether the network is compiled.
    """

    minutes: float
    batch: int
    lr: float
    unlabelled: float = 0.15
    reverse: bool = True
    device: str = "cpu"
    accumulate: int = 1
    compiled: bool = False


def fit(data: Dataset, config: dict[str, Any], folder: Path, plan: Plan) -> None:
    """Trains for a number of minutes, over all sessions.

    Args:
        data: The training set.
        config: The network's `alphabet`, `labels`, `width`, `kernel` and `dilations`.
        folder: The folder of the training's state, which is saved every minute.
        plan: The hyperparameters.
    """
    processes = processes_on(plan.device)
    x, label = (part.to(processes.device) for part in (data.tokens, torch.from_numpy(data.labels)))
    torch.manual_seed(0)
    net = network(config).to(processes.device)
    trainer = Trainer(net, plan.lr, processes=processes, compiled=plan.compiled)
    if trainer.load(folder):
        torch.manual_seed(trainer.step)
    for progress in trainer.run(plan.minutes, folder):
        trainer.update(_losses(trainer, x, label, plan), progress)


def _losses(trainer: Trainer, x: torch.Tensor, label: torch.Tensor, plan: Plan) -> Iterator[torch.Tensor]:
    """The losses of the parts of a batch."""
    batch = plan.batch // plan.accumulate
    for _ in range(plan.accumulate):
        rows = torch.randint(len(x), (batch,)).to(x.device)
        shown = x[rows]
        if plan.reverse:
            turned = (torch.rand(batch) < 0.5)[:, None].to(x.device)
            shown = torch.where(turned, 3 - shown.flip(1), shown)
        hidden = torch.where((torch.rand(batch) < plan.unlabelled).to(x.device), NONE, label[rows])
        yield any_order_loss(partial(_labelled, trainer.forward, hidden), shown, mask=4) / plan.accumulate


def _labelled(net: nn.Module, label: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return cast("torch.Tensor", net(x, label))


def network(config: dict[str, Any]) -> TokenConvolution:
    """The network of a configuration."""
    size = {name: config[name] for name in ("width", "kernel", "dilations")}
    return TokenConvolution(len(config["alphabet"]), len(config["labels"]), **size)


def export(config: dict[str, Any], folder: Path, out: Path) -> None:
    """Writes the averaged weights of a training, in half precision, and the configuration."""
    average, step, minutes = averaged_weights(folder)
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / "model.safetensors", {name: w.half() for name, w in average.items()}, {"step": str(step)})
    write_whole(out / "config.json", json.dumps({"kind": "nucleotides", **config}) + "\n")
    print(f"{out}: {step} steps, {minutes:.0f} minutes")
