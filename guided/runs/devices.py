"""The devices of a run: one for each process that draws."""

__all__ = ["devices_of"]

from collections.abc import Sequence

import torch

from guided.errors import GuidedError
from guided.loading import resolve_device
from guided.runs.options import spelled


def devices_of(given: int | Sequence[str] | None, device: str) -> list[str]:
    """The device of each process.

    Args:
        given: A number of devices, their names, or None for one.
        device: The option `device`: the kind of the devices where a number is given.

    Raises:
        GuidedError: This machine has no such devices, or both options name devices.
    """
    if given is None or given == 1:
        return [device]
    if not isinstance(given, int):
        if str(device) != "auto":
            raise GuidedError(f"{spelled('devices')} names the devices; leave out {spelled('device')} {device}")
        return [_known(name) for name in given]
    kind = resolve_device(device)
    if ":" in str(kind):
        raise GuidedError(
            f"{spelled('devices')} is {given} and {spelled('device')} is {device}; give the names of all devices"
        )
    return [kind.type] * given if kind.type != "cuda" else _cards(given, torch.cuda.device_count())


def _cards(given: int, there: int) -> list[str]:
    """The first GPUs."""
    if given > there:
        raise GuidedError(
            f"{spelled('devices')} is {given}, and this machine has {there} GPU{'' if there == 1 else 's'}; "
            "processes share a GPU if its name is given several times, as in cuda:0,cuda:0"
        )
    return [f"cuda:{i}" for i in range(given)]


def _known(name: str) -> str:
    """The name of a device that this machine has; a GPU is not touched, as that would take memory on each."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = resolve_device(name)  # "auto", or raises
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return str(device)
    return str(resolve_device(name))
