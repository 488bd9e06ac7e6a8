"""The training of nucleotide models (DNA, RNA) on labelled sequences.

On a GPU the sequences and all that is drawn lie on the device; the batch and the learning rate follow it. With held-out
sequences the loss of the averaged weights on them is printed every minute, and the best of these weights are kept: a
training set of 39,254 sequences, which a GPU reads once a second, is learned by heart in the end.
"""

__all__ = ["BATCHES", "Dataset", "Plan", "export", "fit", "network", "numbers"]

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from guided.errors import GuidedError
from guided.fitting.state import INDEX
from guided.nets.convolution import TokenConvolution
from guided.storage import make_folder, read_json, write_json, write_tensors, write_whole
from training.devices import quicker_layout
from training.held_out import BEST, HeldOut
from training.trainer import Trainer, any_order_loss, averaged_weights, processes_on

NONE = 0  # the label for none
BATCHES = {"cpu": (128, 2e-3), "gpu": (1024, 3e-3)}  # rows of a batch, and the learning rate
NETWORK = "network.json"  # beside the state: the configuration of its network


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
        batch: The number of sequences per update; None for that of the device.
        lr: The learning rate; None for that of the device.
        unlabelled: The share of sequences whose label is hidden, for classifier-free guidance.
        reverse: Whether every other sequence is replaced by its reverse complement (DNA has two strands, RNA one).
        device: cpu, cuda, mps, or auto.
        accumulate: The number of parts that a batch is split into, to save memory.
        compiled: Whether the network is compiled; None for whether it is on a GPU.
        decay: The weight decay of AdamW, which then trains all weights; 0 for the optimizers of token models.
    """

    minutes: float
    batch: int | None = None
    lr: float | None = None
    unlabelled: float = 0.15
    reverse: bool = True
    device: str = "cpu"
    accumulate: int = 1
    compiled: bool | None = False
    decay: float = 0.0

    def on(self, device: torch.device) -> "Plan":
        """The plan with what follows the device filled in."""
        cpu = device.type == "cpu"
        batch, lr = BATCHES["cpu" if cpu else "gpu"]
        compiled = device.type == "cuda" if self.compiled is None else self.compiled
        return replace(self, batch=self.batch or batch, lr=self.lr or lr, compiled=compiled)


def fit(data: Dataset, config: dict[str, Any], folder: Path, plan: Plan, held_out: Dataset | None = None) -> None:
    """Trains for a number of minutes, over all sessions.

    Args:
        data: The training set.
        config: The network's `alphabet`, `labels`, `width`, `kernel`, `dilations` and, if it has any, `dropout`.
        folder: The folder of the training's state, which is saved every minute.
        plan: The hyperparameters.
        held_out: Sequences whose loss selects the weights that are exported; None for the last averaged weights.

    Raises:
        GuidedError: The folder has the state of another network.
    """
    _claim(folder, config)
    processes = processes_on(plan.device)
    device, plan = processes.device, plan.on(processes.device)
    x, label = (part.to(device) for part in (data.tokens, torch.from_numpy(data.labels)))
    torch.manual_seed(0)
    net = network(config).to(device)
    if device.type == "cuda":
        net.layout = quicker_layout(net, x[: plan.batch], label[: plan.batch])
    trainer = Trainer(net, plan.lr or 0.0, _optimizers(net, plan), processes=processes, compiled=bool(plan.compiled))
    if trainer.load(folder):
        torch.manual_seed(trainer.step)
    held = None if held_out is None else HeldOut(held_out.tokens, held_out.labels, trainer, folder)
    for progress in trainer.run(plan.minutes, folder):
        trainer.update(_losses(trainer, x, label, plan), progress)
        if held is not None:
            held.look()
    if held is not None:
        held.measure()


def _claim(folder: Path, config: dict[str, Any]) -> None:
    """Writes the configuration of the network beside its state, or checks that the state there has the same."""
    before = read_json(folder / NETWORK, "") if (folder / NETWORK).is_file() and (folder / INDEX).is_file() else config
    for name in sorted(config.keys() | before.keys()):
        if name != "dropout" and config.get(name) != before.get(name):  # dropout has no weights
            raise GuidedError(
                f"{name} is {config.get(name)}; the training in {str(folder)!r} has {before.get(name)}; "
                "take that, or another folder"
            )
    make_folder(folder)
    write_json(folder / NETWORK, config)


def numbers(text: str) -> list[int]:
    """Whole numbers from 1 on that are separated by commas.

    Raises:
        GuidedError: The text is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise GuidedError(f"dilations is {text!r}; it must be whole numbers from 1 on, as in 1,2,4")
    return [int(part) for part in parts]


def _optimizers(net: nn.Module, plan: Plan) -> list[torch.optim.Optimizer] | None:
    """AdamW with weight decay on what has two dimensions and more; None for the optimizers of token models."""
    if not plan.decay:
        return None
    weights = list(net.parameters())
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": plan.decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [torch.optim.AdamW(groups, lr=plan.lr or 0.0, betas=(0.9, 0.99), fused=weights[0].is_cuda or None)]


def _losses(trainer: Trainer, x: torch.Tensor, label: torch.Tensor, plan: Plan) -> Iterator[torch.Tensor]:
    """The losses of the parts of a batch."""
    batch = (plan.batch or 1) // plan.accumulate
    for _ in range(plan.accumulate):
        rows = torch.randint(len(x), (batch,), device=x.device)
        shown = x[rows]
        if plan.reverse:
            turned = (torch.rand(batch, device=x.device) < 0.5)[:, None]
            shown = torch.where(turned, 3 - shown.flip(1), shown)
        hidden = torch.where(torch.rand(batch, device=x.device) < plan.unlabelled, NONE, label[rows])
        yield any_order_loss(partial(_labelled, trainer.forward, hidden), shown, mask=4) / plan.accumulate


def _labelled(net: nn.Module, label: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return cast("torch.Tensor", net(x, label))


def network(config: dict[str, Any]) -> TokenConvolution:
    """The network of a configuration."""
    size = {name: config[name] for name in ("width", "kernel", "dilations", "dropout") if name in config}
    return TokenConvolution(len(config["alphabet"]), len(config["labels"]), **size)


def export(config: dict[str, Any], folder: Path, out: Path) -> None:
    """Writes the averaged weights of a training, in half precision, and the configuration.

    The weights are those with the best held-out loss, if it was measured, else the last; the size of the network is
    that of the training, if it was noted, else the configuration's.
    """
    average, step, minutes = averaged_weights(folder / BEST if (folder / BEST / INDEX).is_file() else folder)
    if (folder / NETWORK).is_file():
        config = {**config, **read_json(folder / NETWORK)}
    config = {name: entry for name, entry in config.items() if name != "dropout"}  # a sampler has no use for it
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / "model.safetensors", {name: w.half() for name, w in average.items()}, {"step": str(step)})
    write_whole(out / "config.json", json.dumps({"kind": "nucleotides", **config}) + "\n")
    print(f"{out}: {step} steps, {minutes:.0f} minutes")
