"""The held-out loss of a training of nucleotides, and the averaged weights with the best one."""

__all__ = ["BEST", "HeldOut"]

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from guided.fitting.state import read_state, write_state
from training.trainer import Trainer

BEST = "best"  # the folder of the best averaged weights, in that of the state
TOKENS = {"cpu": 51_200, "gpu": 204_800}  # that are measured
INTERVAL, PART = 60.0, 256  # seconds between two measurements, rows of a forward pass


class HeldOut:
    """Measures the averaged weights of a training on sequences that it does not see, with masks that stay the same.

    The loss is the any-order one, in nats a base: every number of masked bases is as frequent, and the cross entropy is
    averaged over them. Rows and masks do not depend on the training's random numbers, nor change them.

    Args:
        x: Tokens, with shape `(n, L)`.
        labels: Labels, with shape `(n,)`.
        trainer: The training.
        folder: The folder of its state; the best averaged weights go into a folder inside.
        mask: The token of a masked base.
        rows: How many sequences are used; None for 51,200 tokens on a CPU and four times as many on a GPU.
    """

    def __init__(
        self,
        x: Tensor,
        labels: NDArray[np.int64],
        trainer: Trainer,
        folder: Path,
        mask: int = 4,
        rows: int | None = None,
    ) -> None:
        self.trainer, self.folder, self.mask = trainer, folder / BEST, mask
        device, generator = trainer.loop.processes.device, torch.Generator().manual_seed(0)
        rows = rows or -(-TOKENS["cpu" if device.type == "cpu" else "gpu"] // x.shape[1])
        chosen = torch.randperm(len(x), generator=generator)[:rows]
        n, length = len(chosen), x.shape[1]
        counts = 1 + torch.arange(n) * length // n
        masked = torch.rand(n, length, generator=generator).argsort(1).argsort(1) < counts[:, None]
        parts = (x[chosen], torch.from_numpy(labels)[chosen], masked, masked / (n * counts[:, None]))
        self.x, self.label, self.masked, self.weight = (part.to(device) for part in parts)
        before = read_state(self.folder)
        self.best = float("inf") if before is None else float(before["loss"])
        self.seconds = trainer.loop.seconds  # at the last measurement

    def look(self) -> None:
        """Measures, if it is a minute since the last time."""
        if self.trainer.loop.seconds - self.seconds >= INTERVAL:
            self.measure()

    def measure(self) -> float:
        """Prints the loss with and without labels, and keeps the averaged weights if the first is the best so far."""
        loop = self.trainer.loop
        self.seconds = loop.seconds
        loss, without = self.loss(self.label), self.loss(torch.zeros_like(self.label))
        better = loss < self.best
        if better:
            self.best = loss
            state = {"average": loop.average, "step": loop.step, "seconds": loop.seconds, "loss": loss}
            write_state(self.folder, state)
        print(
            f"step {loop.step}: held-out loss {loss:.4f}, {without:.4f} without labels"
            + ("" if better else f"; the best was {self.best:.4f}"),
            flush=True,
        )
        return loss

    @torch.no_grad()
    def loss(self, label: Tensor) -> float:
        """The loss of the averaged weights, in nats a base, for labels with shape `(n,)`."""
        net, total = self.trainer.average, torch.zeros((), device=self.x.device)
        net.eval()
        parts = (tensor.split(PART) for tensor in (self.x, label, self.masked, self.weight))
        for x, mine, masked, weight in zip(*parts, strict=True):
            with torch.autocast(x.device.type, torch.bfloat16):
                logits = net(x.masked_fill(masked, self.mask), mine)
            entropy = F.cross_entropy(logits.float().transpose(1, 2), x, reduction="none")
            total += (entropy * weight).sum()
        return float(total)
