r"""The fit of a value network to rollouts.

Every target is one regression, :mod:`guided.learned.regression`, of a number `y` for each kept state:

    mean, soft    y = r(x_K), the reward at the end of the state's trajectory (Monte Carlo)
    bootstrap     y = alpha log mean_m exp(v(x_{k+1}^(m)) / alpha) over its M' candidates, with a frozen copy of the
                  network; after the last step, v is the reward

The minimiser of the soft loss on the latter is the soft mean over all candidates of all visits, so that it solves the
soft Bellman equation. What is learned starts at the data: the steps open one by one from there, while 70 % of the
updates are made, and each time the copy is made anew; then it is made anew as often with all of them open.

One trajectory in ten is held out. Twenty times the loss on their Monte Carlo rewards is measured, which is least at the
same value whether it is bootstrapped or not, and the weights that had the least are kept. Each update draws its states
from (seed, update), and the state of the fit is put on disk at measurements, so that a fit that was killed goes on and
ends with the same bytes.

References:
    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024)
    | https://arxiv.org/abs/2408.08252
"""

__all__ = ["Fit", "Settings"]

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from guided.learned.data import Data, Scaled
from guided.learned.regression import loss
from guided.value import soft_mean

MEASUREMENTS = 20
SAVING = 10.0  # seconds after which the next measurement puts the state on disk
OPENING = 0.7  # the share of the updates after which all steps are open, and the learning rate falls


@dataclass(frozen=True)
class Settings:
    """How a network is fitted.

    Arguments:
        target: "mean", "soft" or "bootstrap".
        alpha: The temperature of a soft value; None for the mean.
        updates: The number of updates.
        batch: The number of states of an update.
        lr: The learning rate; it rises over the first 5 % of the updates and falls to zero over the last 30 %.
        weight_decay: That of AdamW.
        seed: The seed.
    """

    target: str
    alpha: float | None
    updates: int = 2000
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0

    def horizon(self, update: int, K: int) -> int:
        """The first of the steps `0..K-1` that is open."""
        if self.target != "bootstrap":
            return 0
        return max(0, K - 1 - int(update / max(1.0, OPENING * self.updates) * K))

    def copies(self, update: int, K: int) -> bool:
        """Whether the frozen copy is made anew before this update."""
        every = max(1, int(OPENING * self.updates / K))
        moved = self.horizon(update, K) != self.horizon(update - 1, K)
        return self.target == "bootstrap" and (moved or (self.horizon(update, K) == 0 and update % every == 0))

    def rate(self, update: int) -> float:
        """The share of the learning rate."""
        rest = (self.updates - update) / max(1.0, (1 - OPENING) * self.updates)
        return min(1.0, (update + 1) / max(1.0, 0.05 * self.updates), rest)

    @property
    def measured(self) -> set[int]:
        """After how many updates the held-out states are looked at."""
        return {math.ceil(self.updates * (i + 1) / MEASUREMENTS) for i in range(MEASUREMENTS)}


class Fit:
    """The fit of a network, in place.

    Arguments:
        net: Maps rows `(n, *event)`, times `(n,)` and numbers of prompts `(n,)` to `(n,)`; it is on the data's device.
        train: The states to fit on.
        held_out: The states to choose the weights by.
        settings: How.

    Attributes:
        scaled: Its output as a value.
        history: The number of updates and the held-out loss at each measurement; the loss of the best constant is 1.
    """

    def __init__(self, net: nn.Module, train: Data, held_out: Data, settings: Settings) -> None:
        self.net, self.train, self.held_out, self.settings = net, train, held_out, settings
        r, alpha = train.r, settings.alpha
        shift = r.mean() if alpha is None else soft_mean(r[None], alpha)
        self.scaled = Scaled(shift.item(), r.std().item() or 1.0)
        self.constant = self._loss(torch.full_like(held_out.r, self.scaled.shift), held_out.r).mean().item() or 1.0
        self.optimizer = torch.optim.AdamW(net.parameters(), settings.lr, weight_decay=settings.weight_decay)
        self.frozen = copy.deepcopy(net).requires_grad_(False).eval()
        self.update = 0
        self.history: list[tuple[int, float]] = []
        self.best: dict[str, Tensor] = {}
        self.least = math.inf

    def run(self, checkpoint: Path, progress: Callable[[int, float], None] = lambda update, held_out: None) -> None:
        """Makes the updates that are left, and keeps the weights that were the best.

        Arguments:
            checkpoint: The file with the state of the fit; if it is there, the fit goes on from it.
            progress: Called after each update with their number and the last held-out loss, nan before the first.
        """
        self._resume(checkpoint)
        saved = time.monotonic()
        while self.update < self.settings.updates:
            self._step()
            if self.update in self.settings.measured:
                self._measure()
                if time.monotonic() - saved >= SAVING:
                    self._save(checkpoint)
                    saved = time.monotonic()
            progress(self.update, self.history[-1][1] if self.history else math.nan)
        self.net.load_state_dict(self.best)
        self.net.eval()

    def _step(self) -> None:
        settings, K = self.settings, len(self.train.times) - 1
        if settings.copies(self.update, K):
            self.frozen.load_state_dict(self.net.state_dict())
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * settings.rate(self.update)
        rows = self._draw(self.train.open(settings.horizon(self.update, K)))
        y = self.train.r[rows]
        if settings.target == "bootstrap" and settings.alpha is not None:
            y = self.train.backup(self.scaled, self.frozen, rows, settings.alpha)
        self.net.train()
        v = self.train.value(self.scaled, self.net, rows)
        self.optimizer.zero_grad()
        self._loss(v, y.to(v)).mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.update += 1

    def _draw(self, count: int) -> Tensor:
        """The states of an update, among the first `count`."""
        key = np.array([self.settings.seed, self.update], dtype=np.uint64)
        return torch.from_numpy(
            np.random.Generator(np.random.Philox(key=key)).integers(count, size=self.settings.batch)
        )

    def _loss(self, v: Tensor, y: Tensor) -> Tensor:
        return loss(v, y, self.settings.alpha, self.scaled.scale, len(self.train))

    def _measure(self) -> None:
        """The held-out loss; the weights are kept if there were none better since all steps are open."""
        self.net.eval()
        v = self.held_out.values(self.scaled, self.net)
        held_out = self._loss(v, self.held_out.r).mean().item() / self.constant
        self.history.append((self.update, held_out))
        if self.settings.horizon(self.update, len(self.train.times) - 1) == 0 and not held_out >= self.least:
            self.least, self.best = held_out, copy.deepcopy(self.net.state_dict())

    def _save(self, checkpoint: Path) -> None:
        part = checkpoint.with_name(checkpoint.name + ".part")
        with part.open("wb") as file:
            torch.save(self._state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(checkpoint)

    @property
    def _state(self) -> dict[str, Any]:
        return {
            "update": self.update,
            "net": self.net.state_dict(),
            "frozen": self.frozen.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "least": self.least,
            "history": self.history,
        }

    def _resume(self, checkpoint: Path) -> None:
        if not checkpoint.exists():
            return
        state = torch.load(checkpoint, map_location=self.train.device, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.frozen.load_state_dict(state["frozen"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.update, self.best, self.least = state["update"], state["best"], state["least"]
        self.history = [(update, held_out) for update, held_out in state["history"]]
