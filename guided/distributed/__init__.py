"""Runs on several devices and machines: blocks of requests from one queue, drawn by processes, written by one.

    guided.sample("molecules", "qed", n=10_000, devices=4, out="runs/mine")     a process a device, on this machine
    guided.sample("dna", "activity", n=10_000, cluster=Ray(gpus=1), out=...)    an actor a GPU, on a cluster
    guided.sample("molecules", on_ray("dock.py:dock", parts=32), n=10_000)      a reward as tasks on a cluster

A block is a pure function of the description of the run, the seed and its requests. So it does not matter which process
draws it, when, or how often; and the file that is written is the same for any number of processes.

An executor (:class:`guided.runs.executors.Executor`) is a group of processes below :class:`Drawing`, which hands out
the blocks. A group of one's own, as for another kind of cluster, has the methods of :class:`Group`.
"""

__all__ = ["Drawing", "Group", "Processes", "Ray", "Tasks", "on_ray"]

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guided.distributed.cluster import Ray
    from guided.distributed.drawing import Drawing
    from guided.distributed.group import Group
    from guided.distributed.processes import Processes
    from guided.distributed.tasks import Tasks, on_ray

_HOMES = {
    "Drawing": "guided.distributed.drawing",
    "Group": "guided.distributed.group",
    "Processes": "guided.distributed.processes",
    "Ray": "guided.distributed.cluster",
    "Tasks": "guided.distributed.tasks",
    "on_ray": "guided.distributed.tasks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'guided.distributed' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
