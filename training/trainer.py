"""What every training of a masked model shares: the any-order loss, the optimizers, the average, the clock."""

__all__ = ["Trainer", "any_order_loss"]

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Trainer:
    """A network, its running average, the optimizers and the clock, all of which a checkpoint holds.

    Muon moves the matrices of the network's `blocks`, AdamW all other weights.

    Arguments:
        net: The network, on the CPU.
        lr: The learning rate after warm-up and before the decay.
    """

    def __init__(self, net: nn.Module, lr: float) -> None:
        self.net, self.average = net, copy.deepcopy(net).requires_grad_(False)
        matrices = [p for name, p in net.named_parameters() if p.ndim == 2 and name.startswith("blocks.")]
        others = [p for p in net.parameters() if all(p is not m for m in matrices)]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.99))
        ]
        if matrices:
            muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
            self.optimizers.insert(0, muon)
        self.step, self.seconds, self.lr = 0, 0.0, lr
        self.losses: list[float] = []

    def state(self) -> dict[str, object]:
        return {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self, path: Path) -> None:
        torch.save(self.state(), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def update(self, loss: torch.Tensor, progress: float) -> None:
        """One step at a learning rate that warms up, stays, and falls linearly to zero in the last 40 % of the time."""
        scale = min(1.0, (self.step + 1) / 300, max(0.0, (1 - progress) / 0.4))
        loss.backward()
        self.share_gradients()
        self.losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * scale
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        decay = min(0.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)

    def share_gradients(self) -> None:
        """What a training in several processes does between the gradients and the step."""

    def run(self, minutes: float, path: Path) -> Iterator[float]:
        """Hands out the progress, in [0, 1), until so many minutes are over, over all resumptions.

        A checkpoint is written, and the mean loss printed, every minute.
        """
        last = saved = time.monotonic()
        while self.seconds < 60 * minutes:
            yield self.seconds / (60 * minutes)
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if now - saved > 60 or self.seconds >= 60 * minutes:
                self.save(path)
                loss = np.mean(self.losses) if self.losses else np.nan
                print(f"{self.seconds / 60:.1f} min, step {self.step}, loss {loss:.4f}", flush=True)
                self.losses, saved = [], now


def any_order_loss(net: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, mask: int) -> torch.Tensor:
    """Mean over rows of the mean cross entropy of `n ~ U{1..L}` masked tokens, in nats a token."""
    rows, length = x.shape
    share = (torch.randperm(rows) + torch.rand(rows)) / rows  # stratified over the batch
    n = (share * length).long().clamp(max=length - 1)[:, None] + 1
    masked = torch.rand(rows, length).argsort(1).argsort(1) < n
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(x.masked_fill(masked, mask))
    loss = F.cross_entropy(logits.float().flatten(0, 1), x.flatten(), reduction="none").view(rows, length)
    return ((loss * masked).sum(1) / n[:, 0]).mean()
