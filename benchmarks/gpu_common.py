"""What the parts of `gpu.py` share: timing, counting on a GPU, and the peaks of cards."""

__all__ = ["Counts", "Part", "Setting", "counted", "milliseconds", "peak", "rows_line"]

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

#: Dense peaks in 10^12 operations a second, by a word of the card's name: half precision, single precision.
PEAKS = {"H200": (989, 67), "H100": (989, 67), "A100": (312, 19.5), "L40": (181, 91), "4090": (165, 83)}
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
COPIES = ("cudaMemcpyAsync", "cudaMemcpy")
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")


@dataclass(frozen=True)
class Setting:
    """Where the benchmark runs, and whether it is a short try without meaning for anybody but its author."""

    device: torch.device
    small: bool

    def wait(self) -> None:
        """Waits until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


#: A part of the benchmark gives lines: what was measured, and the figures.
Part: TypeAlias = Callable[[Setting], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class Counts:
    """What the profiler saw: milliseconds of kernels, and the numbers of waits, copies and launches."""

    kernels: float
    waits: int
    copies: int
    launches: int


def milliseconds(call: Callable[[], Any], setting: Setting, repeats: int = 20) -> float:
    """The median time of a call, until the device is done."""
    times = []
    for i in range(3 + (2 if setting.small else repeats)):
        setting.wait()
        start = time.perf_counter()
        call()
        setting.wait()
        if i >= 3:  # the first ones compile, and fill caches
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def counted(call: Callable[[], Any], setting: Setting) -> Counts | None:
    """What a call does on the GPU; None without one."""
    if setting.device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        setting.wait()
    events = profiler.key_averages()
    kernels = sum(e.self_device_time_total for e in events if e.device_type.name == "CUDA") / 1e3
    waits, copies, launches = (sum(e.count for e in events if e.key in names) for names in (WAITS, COPIES, LAUNCHES))
    return Counts(kernels, waits, copies, launches)


def peak(setting: Setting, dtype: torch.dtype) -> float | None:
    """The card's dense peak, in operations a second; None where it is not known."""
    if setting.device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(setting.device)
    found = next((peaks for word, peaks in PEAKS.items() if word in name), None)
    return None if found is None else 1e12 * found[dtype == torch.float32]


def rows_line(ms: float, rows: int, operations: float, setting: Setting, dtype: torch.dtype) -> str:
    """Milliseconds, rows a second, and the share of the card's peak."""
    best = peak(setting, dtype)
    share = "" if best is None else f", {operations / (ms / 1e3) / best:.1%} of the peak"
    return f"{ms:.2f} ms, {rows / ms * 1e3:,.0f} rows a second{share}"
