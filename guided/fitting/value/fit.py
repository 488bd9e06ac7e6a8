r"""The fit of a value network to rollouts.

Every target is a regression, :mod:`guided.fitting.value.regression`, on a number `y` for each kept state; a soft value
may be fitted by contrast instead, :mod:`guided.fitting.value.contrast`, after the squared loss:

    mean, soft    y = r(x_K), the reward at the end of the state's trajectory (Monte Carlo)
    bootstrap     y = alpha log mean_m exp(v(x_{k+1}^(m)) / alpha) over its M' candidates, with a frozen copy of the
                  network; after the last step, v is the reward

The first 70 % of the updates use the squared loss: a mean is learned from a few thousand rewards much better than a
soft mean, which depends on the few best of them. A soft value is then trained with the soft loss, whose minimiser is
:math:`\alpha \log \mathbb{E}[\exp(y / \alpha)]` over all visits: with Monte Carlo that is the soft value, with backups
the solution of the soft Bellman equation. Backups start at the data: during the first part the steps are opened one by
one from there, and the frozen copy is renewed each time; in the second part it is renewed another K times.

The result is the running average of the weights over about a twentieth of the updates. One trajectory in ten is held
out. The loss of the average on their Monte Carlo rewards, which is least at the same value with and without
bootstrapping, is measured twenty times, and the best average is kept. Each update draws its states from (seed, update),
and the state of the fit is saved at intervals, so that a fit that was killed resumes and ends with the same bytes.

References:
    | Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based Decoding
    | (Li et al., 2024)
    | https://arxiv.org/abs/2408.08252
"""

__all__ = ["Fit", "Settings", "seeded"]

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from guided.errors import check_number
from guided.fitting.loop import Loop
from guided.fitting.state import check_history, check_like, intact
from guided.fitting.value.contrast import contrast
from guided.fitting.value.regression import loss
from guided.fitting.value.states import Data, Scaled
from guided.values.posterior_mean import soft_mean

MEASUREMENTS = 20
SAVING = 10.0  # seconds between two saved states
CLIP = 1.0  # the largest norm of the gradient of the squared loss
FIRST = 0.7  # the share of the updates with the squared loss


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of a fit.

    Args:
        target: "mean", "soft" or "bootstrap".
        alpha: The temperature of a soft value; None for the mean.
        updates: The number of updates.
        batch: The number of states per update.
        lr: The learning rate; it rises over the first 5 % of the updates and falls to zero over the last 30 %.
        weight_decay: The weight decay of AdamW.
        seed: The seed.
        objective: "regression", or "contrastive" for a soft value.
    """

    target: str
    alpha: float | None
    updates: int = 2000
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0
    objective: str = "regression"

    @property
    def first(self) -> int:
        """The number of updates with the squared loss, while the steps open."""
        return max(1, int(FIRST * self.updates))

    def horizon(self, update: int, K: int) -> int:
        """The first of the steps `0..K-1` that is open."""
        return max(0, K - 1 - update * K // self.first) if self.target == "bootstrap" else 0

    def copies(self, update: int, K: int) -> bool:
        """Whether the frozen copy is renewed before this update."""
        if self.target != "bootstrap":
            return False
        if update <= self.first:
            return self.horizon(update, K) != self.horizon(update - 1, K)
        return (update - self.first) % max(1, (self.updates - self.first) // K) == 0

    def rate(self, update: int) -> float:
        """The factor of the learning rate."""
        rise, fall = (update + 1) / (0.05 * self.updates), (self.updates - update) / (0.3 * self.updates)
        return min(1.0, rise, fall)

    def share(self, update: int) -> float:
        """The share of the weights in the running average after an update: an equal one, until it is long enough."""
        return min(1.0, max(20 / self.updates, 1 / update))

    @property
    def measured(self) -> set[int]:
        """The numbers of updates after which the held-out loss is measured."""
        return {math.ceil(self.updates * (i + 1) / MEASUREMENTS) for i in range(MEASUREMENTS)}


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's generators on the CPU and the device have this seed; outside they are unchanged."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed % 2**63)
        yield


class Fit:
    """The fit of a network, in place.

    Args:
        net: Maps rows `(n, *event)`, times `(n,)` and numbers of prompts `(n,)` to `(n,)`; it is on the data's device.
            It is trained in place, and has the best average at the end.
        train: The states to fit on.
        held_out: The states that the weights are selected by.
        settings: The hyperparameters.

    Attributes:
        scaled: Maps its output to a value.
        constant: The best constant value.
        history: The number of updates and the held-out loss at each measurement; the loss of the best constant is 1
            (the contrastive loss is 0 for it, and below 0 for what is better: 1 is added).
    """

    def __init__(self, net: nn.Module, train: Data, held_out: Data, settings: Settings) -> None:
        self.net, self.train, self.held_out, self.settings = net, train, held_out, settings
        self.alpha: float | None = None  # of the current loss
        self.scaled = Scaled(train.r.mean().item(), train.r.std().item() or 1.0)
        optimizer = torch.optim.AdamW(net.parameters(), settings.lr, weight_decay=settings.weight_decay)
        net.train()
        self.frozen, self.average = (copy.deepcopy(net).requires_grad_(False).eval() for _ in range(2))
        self.loop = Loop(
            net,
            [optimizer],
            rate=lambda update, progress: settings.lr * settings.rate(update),
            share=settings.share,
            clip=CLIP,
            averaged=self.average,
            more=self._more,
        )
        self.history: list[tuple[int, float]] = []
        self.best: dict[str, Tensor] = {}
        self.least = math.inf

    def run(self, folder: Path, progress: Callable[[int, float], None] = lambda update, held_out: None) -> None:
        """Makes the updates that are left, and keeps the best weights.

        Args:
            folder: The folder of the fit's state; if there is one, the fit is resumed.
            progress: Called after each update with the number of updates and the last held-out loss, nan before the
                first.
        """
        self._resume(folder)

        def report() -> None:
            progress(self.update, self.history[-1][1] if self.history else math.nan)

        for _ in self.loop.run(folder, updates=self.settings.updates, due=lambda s: s >= SAVING, progress=report):
            self._step()
            if self.update in self.settings.measured:
                self._measure()
        self.net.load_state_dict(self.best)
        self.net.eval()
        if self.alpha is not None and self.contrasts:
            self._shift(self.train, self.net, self.alpha)  # the constant that the loss leaves open

    @property
    def update(self) -> int:
        """The number of updates so far."""
        return self.loop.step

    @property
    def constant(self) -> float:
        """The constant value with the least loss."""
        r = self.train.r
        return (r.mean() if self.alpha is None else soft_mean(r[None], self.alpha)).item()

    def _step(self) -> None:
        settings, K = self.settings, len(self.train.times) - 1
        if self.update == settings.first and settings.alpha is not None and self.alpha is None:
            self._soften(settings.alpha)
        if settings.copies(self.update, K):
            self.frozen.load_state_dict(self.net.state_dict())
        rows = self._draw(self.train.open(settings.horizon(self.update, K)))
        y = self.train.r[rows]
        if settings.target == "bootstrap" and settings.alpha is not None:
            y = self.train.backup(self.scaled, self.frozen, rows, settings.alpha)
        with seeded(settings.seed + self.update, self.train.device):  # for dropout
            v = self.train.value(self.scaled, self.net, rows)
        self.loop.clip = (
            CLIP if self.alpha is None else None
        )  # the minimiser of the soft loss depends on a few large gradients
        self.loop.update(self._loss(v, y.to(v)).mean())

    def _soften(self, alpha: float) -> None:
        """Switches to the soft loss; for Monte Carlo, the best mean is shifted to minimise it."""
        if self.settings.target == "soft":
            self.net.load_state_dict(self.best)
            self.average.load_state_dict(self.best)
            self._shift(self.held_out, self.average, alpha)
        self.alpha, self.least = alpha, math.inf
        self._measure()

    def _shift(self, data: Data, net: nn.Module, alpha: float) -> None:
        """Adds the constant to all values with which their soft loss on some states is least."""
        over = data.r - data.values(self.scaled, net)
        self.scaled = Scaled(self.scaled.shift + soft_mean(over[None], alpha).item(), self.scaled.scale)

    @property
    def contrasts(self) -> bool:
        """Whether the loss is the contrastive one by now."""
        return self.settings.objective == "contrastive" and self.alpha is not None

    def _draw(self, count: int) -> Tensor:
        """The states of an update, among the first `count`."""
        key = np.array([self.settings.seed, self.update], dtype=np.uint64)
        return torch.from_numpy(
            np.random.Generator(np.random.Philox(key=key)).integers(count, size=self.settings.batch)
        )

    def _loss(self, v: Tensor, y: Tensor) -> Tensor:
        if self.alpha is not None and self.contrasts:
            return contrast(v, y, self.alpha, self.constant, self.scaled.scale)
        return loss(v, y, self.alpha, self.scaled.scale, len(self.train))

    def _held_out(self) -> float:
        """The held-out loss of the average, where that of the best constant is 1."""
        r, loss = self.held_out.r, self._loss(self.held_out.values(self.scaled, self.average), self.held_out.r)
        if self.contrasts:
            return 1 + loss.mean().item()
        return loss.mean().item() / (self._loss(torch.full_like(r, self.constant), r).mean().item() or 1.0)

    def _measure(self) -> None:
        """Measures the held-out loss; keeps the weights if they are the best since all steps are open."""
        held_out = self._held_out()
        self.history.append((self.update, held_out))
        if self.settings.horizon(self.update, len(self.train.times) - 1) == 0 and not held_out >= self.least:
            self.least, self.best = held_out, copy.deepcopy(self.average.state_dict())

    def _more(self) -> dict[str, Any]:
        """The state besides the weights and their average."""
        return {
            "frozen": self.frozen.state_dict(),
            "best": self.best,
            "alpha": self.alpha,
            "shift": self.scaled.shift,
            "least": self.least,
            "history": self.history,
        }

    def _resume(self, folder: Path) -> None:
        state = self.loop.load(folder)
        if state is None:
            return
        with intact(folder):
            check_number("step", self.update, int, most=self.settings.updates)
            due, least = self.frozen.state_dict(), state["least"]
            check_like("frozen", state["frozen"], due)
            if state["best"] != {}:
                check_like("best", state["best"], due)
            self.history = check_history(state["history"], self.update)
            self.least = least if least == math.inf else check_number("least", least, float)
            alpha = state["alpha"]
            self.alpha = None if alpha is None else check_number("alpha", alpha, float, above=0)
            self.scaled = Scaled(check_number("shift", state["shift"], float), self.scaled.scale)
        self.frozen.load_state_dict(state["frozen"])
        self.best = state["best"]
