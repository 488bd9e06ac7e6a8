"""Numbers that a GPU draws itself: the uniform and Gumbel numbers that numpy would draw, from the same counters."""

__all__ = ["DeviceNumbers"]

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guided.core.random import philox
from guided.core.random.host import HostNumbers, Key, Source

NONE = -1


class _Place:
    """Where the streams of some keys are: how many words each has taken, and the word of which half is left."""

    def __init__(self, keys: Sequence[Key], device: torch.device) -> None:
        self.keys, self.device = list(keys), device
        self.taken = np.zeros(len(self.keys), np.int64)
        self.held = np.full(len(self.keys), NONE)
        self.host: HostNumbers | None = None

    def move_halves(self, index: NDArray[np.int64], n: int) -> None:
        """Takes `n` numbers of half a word each, first the half that is left."""
        if not n:
            return
        rest = n - (self.held[index] != NONE)
        self.taken[index] += (rest + 1) // 2
        self.held[index] = np.where(rest % 2 == 1, self.taken[index] - 1, NONE)

    def on_host(self) -> HostNumbers:
        """The same streams as numpy's own from now on."""
        if self.host is None:
            places = zip(self.keys, self.taken.tolist(), self.held.tolist(), strict=True)
            self.host = HostNumbers([_generator(*place) for place in places], self.device, ahead=True)
        return self.host


class DeviceNumbers:
    """Draws uniform numbers on a device, without a copy from the host, bit for bit as :class:`HostNumbers` does.

    Normal numbers take numpy's rejection method, whose counters cannot be foreseen: from the first one on, the streams
    are numpy's own.

    Args:
        place: The streams, shared with those that are taken from them.
        index: Which of them, with shape `(B,)`; None for all.
    """

    def __init__(self, place: _Place, index: NDArray[np.int64] | None = None) -> None:
        self._place = place
        self._index = np.arange(len(place.keys)) if index is None else index
        self._whole = index is None
        keys = [[philox.signed(k) for k in place.keys[i]] for i in self._index]
        self._keys = torch.tensor(keys, device="cpu").view(-1, 2)
        self._placed = self._keys.to(place.device)
        self._host: Source | None = None

    @classmethod
    def of(cls, keys: Sequence[Key], device: torch.device) -> "DeviceNumbers":
        """The streams of these keys, from their start."""
        return cls(_Place(keys, device))

    def __len__(self) -> int:
        return len(self._index)

    def take(self, index: Sequence[int]) -> "DeviceNumbers":
        return DeviceNumbers(self._place, self._index[list(index)])

    def draw(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        if kind == "normal" or self._place.host is not None:
            return self._on_host().draw(kind, shape)
        n = int(np.prod(shape))
        numbers = self._gumbel(n) if kind == "gumbel" else self._uniform(n)
        return numbers.view(len(self), *shape)

    def _uniform(self, n: int) -> Tensor:
        taken, held = self._uploaded()
        numbers = _kernel(self._placed.device.type)(self._placed, taken, held, n)
        self._place.move_halves(self._index, n)
        return numbers

    def _gumbel(self, n: int) -> Tensor:
        """Standard Gumbel numbers on the CPU, in double precision."""
        first = torch.from_numpy(self._place.taken[self._index])
        words = philox.words(self._keys, first[:, None] + torch.arange(n, device="cpu"))
        self._place.taken[self._index] += n
        u = 1 - (words >> 11 & (1 << 53) - 1).double() * 2.0**-53
        return -(-u.log()).log()

    def _uploaded(self) -> tuple[Tensor, Tensor]:
        """Where these streams are, `taken` and `held`; one entry of each, which takes no copy, where all are equal."""
        both = self._place.taken[self._index], self._place.held[self._index]
        device = self._placed.device
        if len(self) and all((mine == mine[0]).all() for mine in both):
            taken, held = (torch.full((1,), int(mine[0]), device=device) for mine in both)
        else:
            taken, held = (torch.from_numpy(mine).to(device, non_blocking=True) for mine in both)
        return taken, held

    def _on_host(self) -> Source:
        if self._host is None:
            host = self._place.on_host()
            self._host = host if self._whole else host.take(self._index.tolist())
        return self._host


@cache
def _kernel(device: str) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """What draws uniform numbers on a kind of device: a kernel on a GPU where there is a compiler for it."""
    if device != "cuda":
        return philox.uniform
    try:
        from guided.core.random import kernel
    except ImportError:
        return philox.uniform
    return kernel.uniform


def _generator(key: Key, taken: int, held: int) -> np.random.Generator:
    """Numpy's generator of a stream, where it is."""
    bits = _philox(key, taken)
    if held != NONE:
        word = int(_philox(key, held).random_raw())
        bits.state = {**bits.state, "has_uint32": 1, "uinteger": word >> 32}
    return np.random.Generator(bits)


def _philox(key: Key, word: int) -> np.random.Philox:
    """Numpy's words of a stream from a word on."""
    bits = np.random.Philox(key=np.array(key, np.uint64), counter=word // 4)
    bits.random_raw(word % 4)
    return bits
