"""The loops of a run as one network: rows of any requests and times go to the loop of their request."""

__all__ = ["Asked", "Looped", "Table"]

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from guided.adapters.diffusers.loops.call import Call, Request
from guided.adapters.diffusers.loops.scheduler import Refused, Told
from guided.adapters.diffusers.loops.thread import Loop
from guided.adapters.diffusers.prediction import Prediction
from guided.core.batching import Evaluator
from guided.errors import GuidedError, out_of_memory

OPEN = 256  # the number of loops that are kept; those that were asked longest ago end first


@dataclass
class Table:
    """The requests of a model, each with a number, which is its condition."""

    requests: list[Request] = field(default_factory=lambda: [Request()])
    device: torch.device = torch.device("cpu")

    def condition(self, requests: Sequence[Request]) -> dict[str, Tensor]:
        """The numbers of requests, with shape `(n,)`."""
        for request in requests:
            if request not in self.requests:
                self.requests.append(request)
        return {"request": torch.tensor([self.requests.index(request) for request in requests], device=self.device)}


class Asked:
    """Maps noisy rows `(n, *event)` at times `(n,)` to the predictions of a pipeline's loops, without gradients.

    Args:
        call: How the pipeline is called.
        evaluator: Micro-batches of the rows of one request.
        table: The requests.
    """

    def __init__(self, call: Call, evaluator: Evaluator, table: Table | None = None) -> None:
        self.call, self.evaluator, self.table = call, evaluator, table or Table(device=evaluator.device)
        self._loops: OrderedDict[tuple[int, int], Loop] = OrderedDict()
        self._lock = threading.RLock()
        self._counted = _Counted(call.network, call.sides)
        weakref.finalize(self, _end, self._loops)

    @property
    def cost(self) -> int:
        """Network rows for one row, at the last question."""
        return self._counted.cost

    def on(self, call: Call) -> "Asked":
        """The same requests of another call."""
        return Asked(call, self.evaluator, self.table)

    def __call__(self, x: Tensor, t: Tensor, request: Tensor | None = None) -> Tensor:
        if torch.is_grad_enabled() and (
            x.requires_grad or any(p.requires_grad for p in self.call.network.parameters())
        ):
            raise GuidedError(f"{type(self.call.pipeline).__name__} by its own loop has no gradients")
        numbers = [0] * len(x) if request is None else request.tolist()
        groups: dict[tuple[int, float], list[int]] = {}
        for i, key in enumerate(zip(numbers, t.tolist(), strict=True)):
            groups.setdefault(key, []).append(i)
        with self._lock:
            parts = [self._group(x[rows], *key) for key, rows in groups.items()]
        if len(parts) == 1:
            return parts[0]
        order = torch.tensor([i for rows in groups.values() for i in rows], device=x.device)
        return torch.cat(parts)[order.argsort()]

    def _group(self, x: Tensor, request: int, t: float) -> Tensor:
        return self.evaluator(lambda rows: self._rows(x[rows], request, t), len(x))

    def _rows(self, x: Tensor, request: int, t: float) -> Tensor:
        """The predictions of rows that one loop takes."""
        try:
            with self._counted.rows(len(x)):
                told = self._told(x, request, t)
        except BaseException as error:
            if not isinstance(error, Exception) or out_of_memory(error):
                self.close()
            elif (request, len(x)) in self._loops:
                self._loops.pop((request, len(x))).close()
            raise
        y = told.prediction.float()
        return y[:, : x.shape[1]] if y.shape != x.shape else y  # a variance may follow

    def _told(self, x: Tensor, request: int, t: float) -> Told:
        key = (request, len(x))
        loop = self._loops.get(key)
        if loop is None or not loop.alive:
            return self._first(x, key, t)
        self._loops.move_to_end(key)
        return loop.ask(x, t)

    def _first(self, x: Tensor, key: tuple[int, int], t: float) -> Told:
        """What a new loop says. Its first turn is for nothing where its call takes no latents."""
        latents = x.to(self.call.precision or self.call.dtype) if self.call.carries else None
        loop = self._loops[key] = Loop(self.call, self.table.requests[key[0]], len(x), t, latents)
        while len(self._loops) > OPEN:
            self._loops.popitem(last=False)[1].close()
        told = loop.listen()
        if not _same(told.sample, x):
            told = loop.ask(x, t)
            if not _same(told.sample, x):
                raise Refused(f"{type(self.call.pipeline).__name__} changes its latents between the steps")
        return told

    def close(self) -> None:
        """Ends all loops; others begin when they are asked."""
        _end(self._loops)


def _same(sample: Tensor, x: Tensor) -> bool:
    return sample.shape == x.shape and torch.equal(sample, x.to(sample.device, sample.dtype))


def _end(loops: OrderedDict[tuple[int, int], Loop]) -> None:
    while loops:
        loops.popitem()[1].close()


class _Counted:
    """Counts the rows of a network."""

    def __init__(self, network: nn.Module, sides: int) -> None:
        self.cost, self._rows = sides, 0
        own = weakref.ref(self)

        def count(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            counted = own()
            if counted is not None:
                counted._rows += _batch([*args, *options.values()])

        self._hook = network.register_forward_pre_hook(count, with_kwargs=True)
        weakref.finalize(self, self._hook.remove)

    @contextmanager
    def rows(self, n: int) -> Iterator[None]:
        """Inside, `n` rows are asked; afterwards the cost of one is known."""
        self._rows = 0
        yield
        self.cost = max(1, round(self._rows / n))


def _batch(values: Sequence[Any]) -> int:
    """The number of rows that a network is called with."""
    for value in values:
        if isinstance(value, Tensor) and value.ndim > 1:
            return len(value)
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            return len(value)
    return 0


@dataclass(frozen=True)
class Looped(Prediction):
    """Loops as a denoiser.

    Args:
        network: The loops.
        levels: Alpha and sigma of a time.
        target: What the network predicts.
        at: Maps a number of steps to the levels of its times.
    """

    network: Asked
    levels: Any
    at: Callable[[int], Any]

    differentiable: ClassVar[bool] = False  # a pipeline runs without gradients, in another thread

    @property
    def cost(self) -> int:
        """Network rows for one row."""
        return self.network.cost

    def around(self, net: nn.Module) -> "Looped":
        """The same with another network of the same architecture."""
        call = self.network.call
        return replace(self, network=self.network.on(call.with_network(call.part, net)))

    def with_steps(self, K: int) -> "Looped":
        """The same for loops of `K` steps."""
        call = self.network.call
        if call.steps == K:
            return self
        return replace(self, network=self.network.on(replace(call, steps=K)), levels=self.at(K))

    def close(self) -> None:
        """Ends the loops."""
        self.network.close()
