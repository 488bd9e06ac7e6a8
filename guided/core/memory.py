"""Sizes that cannot fit in memory are refused early: an allocation may make the system kill the process."""

__all__ = ["check_memory", "memory_of"]

import os
from typing import Any

import torch

from guided.errors import GuidedError

CPU = torch.device("cpu")


def memory_of(device: torch.device) -> int:
    """The bytes of memory that a device has in all; 0 if it is unknown."""
    if device.type == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def check_memory(name: str, value: Any, needed: int, device: torch.device = CPU) -> None:
    """Refuses early what cannot fit in memory.

    Args:
        name: What the size is called.
        value: The size.
        needed: The bytes that the smallest thing of that size takes.
        device: Where it would be made.

    Raises:
        GuidedError: The device has less memory than that.
    """
    available = memory_of(device)
    if available and needed > available:
        raise GuidedError(
            f"{name} is {value}, which takes {needed:,} bytes of memory at least; "
            f"{device.type} has {available:,} in all: take a smaller one"
        )
