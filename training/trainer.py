"""Shared by the trainings of the shipped models: the schedule, the average, the clock, and the any-order loss."""

__all__ = ["Trainer", "any_order_loss", "averaged_weights", "processes_on"]

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from guided.errors import GuidedError
from guided.fitting.half import whole
from guided.fitting.loop import Alone, Loop, Processes, cool_down, decaying, warm_up
from guided.fitting.state import intact, read_state
from training.devices import use_tensor_cores
from training.optimizers import token_optimizers

WARM, COOL = 300, 0.4  # updates in which the learning rate rises, and the share of the time in which it falls
DECAY = 0.999


class Trainer:
    """A network, its running average and its training loop.

    Args:
        net: The network, on its device.
        lr: The learning rate after warm-up and before the decay.
        optimizers: The optimizers of its weights; None for those of token models.
        processes: The processes of the training, with device and precision; None for one in full precision.
        compiled: Whether the network is compiled.
        half: Whether the state is saved in half the bytes; otherwise a resumed training goes on exactly.
    """

    def __init__(
        self,
        net: nn.Module,
        lr: float,
        optimizers: Sequence[torch.optim.Optimizer] | None = None,
        processes: Processes | None = None,
        compiled: bool = False,
        half: bool = False,
    ) -> None:
        self.net, self.average = net, copy.deepcopy(net).requires_grad_(False)
        self.loop = Loop(
            net,
            token_optimizers(net, lr) if optimizers is None else optimizers,
            rate=lambda update, progress: lr * min(warm_up(update, WARM), cool_down(progress, COOL)),
            share=decaying(DECAY),
            averaged=self.average,
            processes=processes,
            compiled=compiled,
            half=half,
        )
        self.losses: list[float] = []

    @property
    def forward(self) -> nn.Module:
        """The network, compiled if `compiled`."""
        return self.loop.forward

    @property
    def step(self) -> int:
        """The number of updates so far, over all sessions."""
        return self.loop.step

    def load(self, folder: Path) -> bool:
        """Loads the state in a folder; returns whether there is one."""
        return self.loop.load(folder) is not None

    def save(self, folder: Path) -> None:
        """Saves the state."""
        self.loop.save(folder)

    def update(self, losses: torch.Tensor | Iterable[torch.Tensor], progress: float) -> None:
        """Makes an update by the loss of a batch, or by the losses of its parts, which add up to it."""
        self.losses.append(self.loop.update(losses, progress))

    def run(self, minutes: float, folder: Path, session: float | None = None) -> Iterator[float]:
        """Yields the progress, in [0, 1), until the number of minutes, over all sessions, is reached.

        With `session` it ends after so many minutes of this session, too. The state is saved and the mean loss printed
        every minute, at the end, and when interrupted.
        """
        return self.loop.run(folder, minutes=minutes, session=session, saved=self._tell)

    def _tell(self) -> None:
        loss = np.mean(self.losses) if self.losses else np.nan
        print(f"{self.loop.seconds / 60:.1f} min, step {self.step}, loss {loss:.4f}", flush=True)
        self.losses = []


def processes_on(device: str, precision: str = "no") -> Alone:
    """One process on a device: cpu, cuda, cuda:1, mps, or auto; `precision` is "no" or "bf16".

    Matrix products of full precision use TF32 on GPUs that have it.

    Raises:
        GuidedError: There is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise GuidedError(f"device is {device!r}: {str(error).splitlines()[0]}") from error
    if device.startswith("cuda"):
        use_tensor_cores()
    return Alone(torch.device(device), precision)


def averaged_weights(folder: Path) -> tuple[dict[str, torch.Tensor], int, float]:
    """The averaged weights of a training, the number of its updates, and its time in minutes.

    Raises:
        GuidedError: There is no training.
    """
    state = read_state(folder)
    if state is None:
        raise GuidedError(f"there is no training in {str(folder)!r}; train first")
    with intact(folder):
        return whole(state)["average"], int(state.get("step", 0)), float(state.get("seconds", 0.0)) / 60


def any_order_loss(net: Callable[..., torch.Tensor], x: torch.Tensor, mask: int, partial: bool = False) -> torch.Tensor:
    """Mean over rows of the mean cross entropy of `n ~ U{1..L}` masked tokens, in nats a token, with bf16 autocast.

    Random numbers are drawn on the device of the rows. With `partial` the network is also given the numbers of the
    masked tokens in the flattened rows, and returns their logits only; how many there are is always the same if the
    number of rows is a multiple of L, as a compiled network needs it.
    """
    rows, length = x.shape
    share = (torch.randperm(rows, device=x.device) + torch.rand(rows, device=x.device)) / rows  # stratified
    n = (share * length).long().clamp(max=length - 1)[:, None] + 1
    masked = torch.rand(rows, length, device=x.device).argsort(1).argsort(1) < n
    places = masked.flatten().nonzero()[:, 0] if partial else None
    with torch.autocast(x.device.type, torch.bfloat16):
        hidden = x.masked_fill(masked, mask)
        logits = net(hidden) if places is None else net(hidden, places)
    if places is not None:
        loss = F.cross_entropy(logits.float(), x.flatten()[places], reduction="none")
        return (loss / n.expand_as(x).flatten()[places]).sum() / rows
    loss = F.cross_entropy(logits.float().flatten(0, 1), x.flatten(), reduction="none").view(rows, length)
    return ((loss * masked).sum(1) / n[:, 0]).mean()
