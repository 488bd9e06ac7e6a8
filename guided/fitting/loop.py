r"""The training loop of values, negative checkpoints and the shipped models.

An update adds up the gradients of the parts of a batch, and those of other processes, clips them, takes a step of each
optimizer at this update's learning rate, and updates the running average of the weights, which is what is saved:

.. math:: \bar\theta \leftarrow \bar\theta + s_u (\theta - \bar\theta)

The loop counts updates and seconds over all sessions. It saves its state at intervals, at the end, and when it is
interrupted, always between two updates: SIGINT and SIGTERM are delivered after the current update. A training whose
random numbers depend only on the number of the update ends with the same weights however often it was stopped.

A training makes a network and its optimizers, and passes losses to the loop::

    device = torch.device("cuda")
    net = Network().to(device)
    loop = Loop(
        net,
        [torch.optim.AdamW(net.parameters(), fused=True)],
        rate=lambda update, progress: 1e-3 * warm_up(update, 300) * cool_down(progress, 0.4),
        share=decaying(0.999),
        averaged=copy.deepcopy(net),
        processes=Alone(device, "bf16"),  # or an Accelerator of accelerate
        compiled=True,
    )
    loop.load(folder)  # resumes
    for progress in loop.run(folder, minutes=9):  # over all sessions; or updates=10_000
        generator = torch.Generator().manual_seed(loop.step)
        loop.update((loss(loop.forward, rows) for rows in batch(generator).chunk(4)), progress)  # four parts

For mixed precision, compute losses under `loop.processes.autocast()`. The parts of a batch are evaluated one at a time,
so memory is needed for one part only; each loss is the sum over its rows, divided by the number of rows of the batch.
"""

__all__ = ["Alone", "Loop", "Processes", "cool_down", "decaying", "warm_up"]

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from guided.errors import GuidedError, check_number
from guided.fitting.half import halved, whole
from guided.fitting.state import check_like, intact, read_state, write_state

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERVAL = 60.0  # seconds between two saved states
PRECISIONS = {"no": None, "bf16": torch.bfloat16}


class Processes(Protocol):
    """The processes of a training, with the interface of accelerate's `Accelerator`."""

    process_index: int
    num_processes: int
    is_main_process: bool
    device: torch.device
    scaler: Any

    def backward(self, loss: Tensor) -> Any:
        """Adds the gradients of a loss to the weights'."""

    def reduce(self, tensor: Tensor, reduction: str) -> Any:
        """The sum of a tensor over all processes."""

    def clip_grad_norm_(self, parameters: Any, max_norm: float) -> Any:
        """Scales gradients down to a norm."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which losses of mixed precision are computed."""


@dataclass
class Alone:
    """A training in a single process.

    Args:
        device: The device of the network.
        precision: "no", or "bf16" for mixed precision.

    Raises:
        GuidedError: There is no such precision.
    """

    device: torch.device = torch.device("cpu")
    precision: str = "no"
    process_index: int = 0
    num_processes: int = 1
    is_main_process: bool = True
    scaler: Any = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise GuidedError(f"precision is {self.precision!r}; it is one of {', '.join(PRECISIONS)}")

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss to the weights'."""
        torch.autograd.backward(loss)

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        """The tensor."""
        return tensor

    def clip_grad_norm_(self, parameters: Any, max_norm: float) -> Tensor:
        """Scales gradients down to a norm."""
        return nn.utils.clip_grad_norm_(parameters, max_norm)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which losses of mixed precision are computed."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)


def warm_up(update: int, updates: int) -> float:
    """A factor of the learning rate that rises to 1 over the first updates."""
    return min(1.0, (update + 1) / updates)


def cool_down(progress: float, share: float) -> float:
    """A factor of the learning rate that falls to 0 over the last `share` of the progress, which is in [0, 1]."""
    return min(1.0, max(0.0, (1 - progress) / share))


def decaying(decay: float) -> Callable[[int], float]:
    """The share of the new weights in an exponential average with this decay; the decay is lower at the beginning."""
    return lambda update: 1 - min(decay, (1 + update) / (10 + update))


class Loop:
    """Trains the weights of a network that require gradients.

    Args:
        net: The network, on its device.
        optimizers: The optimizers of its weights.
        rate: Maps the number of updates so far, and the progress in [0, 1], to the learning rate.
        share: Maps the number of updates, this one counted, to the share :math:`s_u` of the weights in the average.
        clip: The largest norm of the gradient; None for any.
        averaged: A copy of the network that holds the running average; None to average only the weights that require
            gradients, if most are frozen.
        processes: The processes of the training; None for this one.
        compiled: Whether `forward` is compiled.
        more: Returns further entries of the state, which `load` returns.
        half: Whether the state is saved in half the bytes (`guided/fitting/half.py`). A training that is resumed from
            such a state goes on from rounded numbers, otherwise from exactly those that were saved. A state of either
            kind can be loaded.

    Raises:
        GuidedError: The state is to be halved, but the weights are not float32.

    Attributes:
        forward: The network for computing losses, compiled if `compiled`.
        weights: The weights that are trained, by name.
        average: Their running average.
        step: The number of updates so far.
        seconds: The time spent on them.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizers: Sequence[Any],
        *,
        rate: Callable[[int, float], float],
        share: Callable[[int], float],
        clip: float | None = 1.0,
        averaged: nn.Module | None = None,
        processes: Processes | None = None,
        compiled: bool = False,
        more: Callable[[], Mapping[str, Any]] = dict,
        half: bool = False,
    ) -> None:
        self.net, self.optimizers, self.rate, self.share, self.clip = net, list(optimizers), rate, share, clip
        self.processes, self.more = processes or Alone(next(net.parameters()).device), more
        self.forward = cast("nn.Module", torch.compile(net, dynamic=False)) if compiled else net
        self.weights, self.half = {name: p for name, p in net.named_parameters() if p.requires_grad}, half
        if half and (other := {str(p.dtype) for p in self.weights.values()} - {"torch.float32"}):
            raise GuidedError(f"half is True, but there are weights of {', '.join(sorted(other))}; take float32")
        self._copied: dict[str, Tensor] = {}  # frozen weights and buffers, copied into `averaged` as they are
        if averaged is None:
            self.average = {name: p.detach().clone() for name, p in self.weights.items()}
        else:
            self.average = _tensors(averaged.requires_grad_(False))
            self._copied = {name: t for name, t in _tensors(net).items() if name not in self.weights}
        self.step, self.seconds = 0, 0.0

    def update(self, losses: Tensor | Iterable[Tensor], progress: float = 0.0) -> float:
        """Makes an update.

        Args:
            losses: The loss of the batch, or those of its parts, whose sum it is.
            progress: How far the training is, in [0, 1], for the learning rate.

        Returns:
            The loss, over all processes.

        Raises:
            GuidedError: It is not finite; the weights stay as they are.
        """
        total = 0.0
        for loss in [losses] if isinstance(losses, Tensor) else losses:
            self.processes.backward(loss)
            total += loss.item()
        total = float(self.processes.reduce(torch.tensor(total, device=self.processes.device), "sum"))
        if not abs(total) < float("inf"):  # checked in all processes, or the others would wait
            raise GuidedError(f"the loss is not finite at update {self.step}; take a smaller lr, or full precision")
        self._share_gradients()
        if self.clip is not None:
            self.processes.clip_grad_norm_(list(self.weights.values()), self.clip)
        self._move(self.rate(self.step, progress))
        return total

    def _share_gradients(self) -> None:
        """Adds up the gradients of all processes, in one reduction."""
        if self.processes.num_processes > 1:
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.weights.values()]
            total = self.processes.reduce(torch.cat([grad.flatten() for grad in grads]), "sum")
            parts = total.split([grad.numel() for grad in grads])
            for p, part in zip(self.weights.values(), parts, strict=True):
                p.grad = part.view_as(p).to(p.dtype)

    @torch.no_grad()
    def _move(self, rate: float) -> None:
        """Updates the weights by their gradients, then the average."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        share = self.share(self.step)
        averages = [self.average[name] for name in self.weights]
        torch._foreach_lerp_(averages, list(self.weights.values()), share)
        for name, tensor in self._copied.items():
            self.average[name].copy_(tensor)

    def run(
        self,
        folder: Path,
        *,
        updates: int | None = None,
        minutes: float | None = None,
        session: float | None = None,
        due: Callable[[float], bool] = lambda seconds: seconds >= INTERVAL,
        saved: Callable[[], None] = lambda: None,
        progress: Callable[[], None] = lambda: None,
    ) -> Iterator[float]:
        """Yields the progress, in [0, 1), once for each update that is left.

        Args:
            folder: The folder in which the main process saves the state.
            updates: The number of updates, over all sessions.
            minutes: The time, over all sessions. The training ends when either is reached.
            session: The minutes of this session, after which it ends, too; None for as many as are left.
            due: Maps the seconds since the last save to whether the state is saved.
            saved: Called after each save.
            progress: Called after each update, after the state was saved if it was due.
        """
        first = last = then = time.monotonic()
        while (done := self._done(updates, minutes)) < 1:
            with _delayed() as signals:
                yield done
                now = time.monotonic()
                self.seconds, last = self.seconds + now - last, now
                spent = session is not None and now - first >= 60 * session
                over = spent or bool(signals) or self._done(updates, minutes) >= 1
                if self.processes.is_main_process and (over or due(now - then)):
                    self.save(folder)
                    saved()
                    then = now
            progress()
            if spent:
                break

    def _done(self, updates: int | None, minutes: float | None) -> float:
        done = [self.step / updates] if updates else []
        return max([*done, *([self.seconds / (60 * minutes)] if minutes else [])], default=1.0)

    def save(self, folder: Path) -> None:
        """Saves the state.

        Raises:
            GuidedError: The folder cannot be written.
        """
        scaler = self.processes.scaler
        state = {
            "weights": self.weights,
            "others": self._copied,
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": None if scaler is None else scaler.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "more": dict(self.more()),
        }
        write_state(folder, halved(state) if self.half else state)

    def load(self, folder: Path) -> dict[str, Any] | None:
        """Loads the state in a folder; returns its further entries, or None if there is no state.

        Raises:
            GuidedError: The state is damaged, or of another network.
        """
        state = read_state(folder, self.processes.device)
        if state is None:
            return None
        with intact(folder), torch.no_grad():
            state = whole(state)
            step = check_number("step", state["step"], int, least=0)
            seconds = check_number("seconds", state["seconds"], float, least=0)
            parts = (("weights", self.weights), ("others", self._copied), ("average", self.average))
            for name, mine in parts:
                check_like(name, state[name], mine)
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                _check_optimizer(optimizer, saved)
            more = dict(state["more"])
            for name, mine in parts:
                for key, tensor in mine.items():
                    tensor.copy_(state[name][key])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            if self.processes.scaler is not None and state["scaler"] is not None:
                self.processes.scaler.load_state_dict(state["scaler"])
            self.step, self.seconds = step, seconds
        return more


def _check_optimizer(optimizer: Any, saved: Any) -> None:
    """Checks the state of an optimizer: its groups have the same weights, and its averages their shapes.

    Raises:
        GuidedError: It is of another network.
    """
    groups, moments = saved["param_groups"], saved["state"]
    due = optimizer.state_dict()["param_groups"]
    if [group["params"] for group in groups] != [group["params"] for group in due]:
        raise GuidedError("the optimizer has other weights")
    for group in groups:
        check_number("lr", group["lr"], float, least=0)
    numbers = [number for group in due for number in group["params"]]
    weights = dict(zip(numbers, (p for group in optimizer.param_groups for p in group["params"]), strict=True))
    for number, entries in moments.items():
        for name in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            if name in entries:
                check_like(f"the optimizer's weight {number}", entries, {name: weights[number]})


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers in the state of a network, shared ones once."""
    kept = net.state_dict().keys()
    return {name: tensor for name, tensor in (*net.named_parameters(), *net.named_buffers()) if name in kept}


@contextmanager
def _delayed() -> Iterator[list[int]]:
    """Inside, SIGINT and SIGTERM are only recorded; they are delivered at the end."""
    found: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    def note(number: int, frame: FrameType | None) -> None:
        if number in found:  # the second time it is delivered at once
            signal.default_int_handler(number, frame)
        found.append(number)

    before = {int(number): signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, note)
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in found:
        signal.raise_signal(number)
