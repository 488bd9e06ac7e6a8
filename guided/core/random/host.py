"""Numbers that numpy draws on the CPU, a generator for each request."""

__all__ = ["HostNumbers", "Source"]

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Key: TypeAlias = tuple[int, int]
Wanted: TypeAlias = tuple[str, tuple[int, ...]]  # the kind of numbers, and their shape for each request

_FILL: dict[str, Callable[[np.random.Generator, NDArray[Any]], object]] = {
    "uniform": lambda generator, out: generator.random(out=out, dtype=np.float32),
    "normal": lambda generator, out: generator.standard_normal(out=out, dtype=np.float32),
    "gumbel": lambda generator, out: np.copyto(out, generator.gumbel(size=out.shape)),
}
_AHEAD = ThreadPoolExecutor(1, "numbers")  # numpy fills arrays without the interpreter's lock


class Source(Protocol):
    """The random numbers of `B` requests."""

    def __len__(self) -> int: ...

    def draw(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        """The next numbers of each request, with shape `(B, *shape)`."""

    def take(self, index: Sequence[int]) -> "Source":
        """Those of some of the requests; what either draws moves both on."""


class HostNumbers:
    """Draws on the CPU, and moves the numbers to a device.

    With `ahead` a thread draws what will probably be asked for next while the device works: what followed the last
    normal numbers. Where that was wrong, the generators are set back, so the numbers are the same with and without.

    Args:
        generators: The generator of each request.
        device: Where the numbers go; Gumbel numbers stay on the CPU.
        ahead: Whether to draw ahead.
    """

    def __init__(self, generators: Sequence[np.random.Generator], device: torch.device, ahead: bool = False) -> None:
        self.generators, self.device, self.ahead = list(generators), device, ahead
        self._since: list[Wanted] = []  # what was asked for since the last normal numbers, those included
        self._drawn: list[tuple[Wanted, Tensor]] = []
        self._job: Future[list[tuple[Wanted, Tensor]]] | None = None
        self._before: list[Any] = []  # the generators' states before `_drawn`

    @classmethod
    def of(cls, keys: Sequence[Key], device: torch.device, ahead: bool = False) -> "HostNumbers":
        """The streams of these keys, from their start."""
        return cls([np.random.Generator(np.random.Philox(key=np.array(key, np.uint64))) for key in keys], device, ahead)

    def __len__(self) -> int:
        return len(self.generators)

    def take(self, index: Sequence[int]) -> "HostNumbers":
        self._settle()
        self.ahead = False  # the generators are shared from now on
        return HostNumbers([self.generators[i] for i in index], self.device)

    def draw(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        if not self.ahead:
            return self._placed(kind, self._fill(kind, shape))
        self._drawn += self._job.result() if self._job else []
        self._job = None
        if not self._drawn or self._drawn[0][0] != (kind, shape):
            self._settle()
            numbers = self._fill(kind, shape)
        else:
            numbers = self._drawn.pop(0)[1]
        numbers = self._placed(kind, numbers)
        self._plan(kind, shape)
        return numbers

    def _plan(self, kind: str, shape: tuple[int, ...]) -> None:
        """Draws ahead after normal numbers: what followed the former ones, and as many again."""
        if kind != "normal":
            self._since.append((kind, shape))
            return
        wanted = [*self._since[1:], (kind, shape)]
        self._since = [(kind, shape)]
        if not self._drawn:
            self._before = [generator.bit_generator.state for generator in self.generators]
            self._job = _AHEAD.submit(lambda: [(want, self._fill(*want)) for want in wanted])

    def _settle(self) -> None:
        """Gives back what was drawn ahead and not asked for."""
        drawn = [*self._drawn, *(self._job.result() if self._job else [])]
        self._drawn, self._job = [], None
        if not drawn:
            return
        for generator, state in zip(self.generators, self._before, strict=True):
            generator.bit_generator.state = state
        for want in self._since[1:]:  # asked for since then
            self._fill(*want)

    def _fill(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        """The next numbers, on the CPU, in pinned memory where they go to a GPU."""
        dtype = torch.float64 if kind == "gumbel" else torch.float32
        pinned = self.device.type == "cuda" and kind != "gumbel"
        numbers = torch.empty(len(self), *shape, dtype=dtype, device="cpu", pin_memory=pinned)
        for generator, row in zip(self.generators, numbers.view(len(self), math.prod(shape)).numpy(), strict=True):
            _FILL[kind](generator, row)
        return numbers

    def _placed(self, kind: str, numbers: Tensor) -> Tensor:
        return numbers if kind == "gumbel" else numbers.to(self.device, non_blocking=True)
