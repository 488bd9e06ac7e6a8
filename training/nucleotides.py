"""Training of the nucleotide models (DNA, RNA): labelled sequences in, a checkpoint out."""

__all__ = ["Dataset", "export", "fit"]

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from guided.nets.convolution import TokenConvolution
from training.trainer import Trainer, any_order_loss

NONE = 0  # the label that stands for none


@dataclass(frozen=True)
class Dataset:
    """Sequences of one length over ACGT with a label each.

    Attributes:
        sequences: As text.
        labels: With shape `(n,)`, from 1 on; 0 is the label "none".
    """

    sequences: Sequence[str]
    labels: NDArray[np.int64]

    @property
    def tokens(self) -> torch.Tensor:
        """With shape `(n, L)`: A, C, G, T are 0 to 3."""
        codes = np.frombuffer("".join(self.sequences).encode(), dtype=np.uint8).reshape(len(self.sequences), -1)
        return torch.from_numpy(np.searchsorted(np.frombuffer(b"ACGT", dtype=np.uint8), codes).astype(np.int64))

    def select(self, kept: NDArray[np.bool_]) -> "Dataset":
        return Dataset([s for s, keep in zip(self.sequences, kept, strict=True) if keep], self.labels[kept])


def fit(
    data: Dataset,
    config: dict[str, Any],
    path: Path,
    minutes: float,
    batch: int,
    lr: float,
    unlabelled: float = 0.15,
    reverse: bool = True,
) -> None:
    """Trains for so many minutes in all, over all resumptions.

    Arguments:
        data: The training set.
        config: The network's `alphabet`, `labels`, `width`, `kernel` and `dilations`.
        path: The checkpoint, written every minute.
        minutes: The time.
        batch: Sequences a step.
        lr: The learning rate.
        unlabelled: The share of sequences whose label is hidden, for classifier-free guidance.
        reverse: Show every other sequence as its reverse complement (DNA has two strands, RNA one).
    """
    x, label = data.tokens, torch.from_numpy(data.labels)
    torch.manual_seed(0)
    trainer = Trainer(network(config), lr)
    if path.exists():
        trainer.load(path)
        torch.manual_seed(trainer.step)
    for progress in trainer.run(minutes, path):
        rows = torch.randint(len(x), (batch,))
        shown = x[rows]
        if reverse:
            shown = torch.where((torch.rand(batch) < 0.5)[:, None], 3 - shown.flip(1), shown)
        hidden = torch.where(torch.rand(batch) < unlabelled, NONE, label[rows])
        trainer.update(any_order_loss(lambda x: trainer.net(x, hidden), shown, mask=4), progress)  # noqa: B023


def network(config: dict[str, Any]) -> TokenConvolution:
    """The network of a configuration."""
    size = {name: config[name] for name in ("width", "kernel", "dilations")}
    return TokenConvolution(len(config["alphabet"]), len(config["labels"]), **size)


def export(config: dict[str, Any], path: Path, out: Path) -> None:
    """Writes the averaged weights, in half precision, and the configuration."""
    state = torch.load(path, weights_only=True)
    weights = {name: w.half().contiguous() for name, w in state["average"].items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "model.safetensors", metadata={"step": str(state["step"])})
    (out / "config.json").write_text(json.dumps({"kind": "nucleotides", **config}) + "\n")
    print(f"{out}: {state['step']} steps, {state['seconds'] / 60:.0f} minutes")
