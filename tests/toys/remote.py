"""A device that is not there: its tensors are the CPU's, and it counts how often the host waits for it.

    with Remote() as remote:
        x = torch.arange(5, device=DEVICE)
        x.sum().item()
    remote.waits  # 1

The host waits where it needs a number, or the number of rows that a condition selects. Copies to the device are counted
apart. Uniform numbers are drawn on the host and copied; a GPU draws them by a kernel.
"""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

DEVICE = torch.device("meta")
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}


class RemoteTensor(torch.Tensor):
    """A tensor that says it is on the device."""

    held: torch.Tensor

    @staticmethod
    def of(held: torch.Tensor) -> "RemoteTensor":
        made = torch.Tensor._make_wrapper_subclass(
            RemoteTensor, held.shape, strides=held.stride(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function} outside of Remote()")


class Remote(TorchDispatchMode):
    """Inside, tensors can be made on `DEVICE`.

    Attributes:
        waits: How often the host waited for the device.
        reasons: How often by operation.
        uploads: The copies to the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reasons: Counter[str] = Counter()
        self.uploads = 0

    @property
    def waits(self) -> int:
        return self.reasons.total()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = function.overloadpacket.__name__
        seen: list[bool] = []
        unwrap = lambda t: (seen.append(True), t.held)[1] if isinstance(t, RemoteTensor) else t  # noqa: E731
        plain_args, plain = tree_map(unwrap, args), tree_map(unwrap, kwargs)
        target = plain.get("device")
        there = target is not None and torch.device(target).type == DEVICE.type
        if there:
            plain["device"] = torch.device("cpu")
        if seen and (name in WAITING or self._by_condition(name, plain_args)):
            self.reasons[name] += 1
        if seen and target is not None and not there:
            self.reasons["copy to the host"] += 1
            return function(*plain_args, **plain)
        self.uploads += there and not seen and name == "_to_copy"
        result = function(*plain_args, **plain)
        if not (seen or there):
            return result
        if name.endswith("_") and isinstance(args[0], RemoteTensor):
            return args[0]
        return tree_map_only(torch.Tensor, RemoteTensor.of, result)

    @staticmethod
    def _by_condition(name: str, args: Any) -> bool:
        """Whether rows are selected by true and false values, whose number the host has to know."""
        if name not in ("index", "index_put", "index_put_"):
            return False
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
