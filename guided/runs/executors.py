"""Who draws the blocks of a run: this process, or an executor, as one process on each of several devices.

A block of requests depends on the description of the run, the seed and its requests only, so it does not matter who
draws it. Executors stand above this package, in `guided.distributed`: each is imported when a run asks for it.
"""

__all__ = ["Executor", "Placed", "executor_for", "in_order", "numbered"]

from collections.abc import Callable, Generator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from guided.core.monitor import Progress
from guided.errors import GuidedError, nearest, shown
from guided.names import read_value, split_name
from guided.runs.config import RunConfig
from guided.runs.devices import devices_of
from guided.runs.engine import Batch
from guided.runs.options import spelled
from guided.samplers import Sampler
from guided.scoring.objective import Objective

Hook = Callable[[Progress], None] | None
Placed: TypeAlias = Generator[tuple[int, Batch], None, None]  # batches with their places
_PROCESSES = "guided.distributed.processes:Processes"
_CLUSTERS = {"ray": "guided.distributed.cluster:Ray"}


class Executor(Protocol):
    """Draws blocks of the requests of a run."""

    @property
    def size(self) -> int:
        """How many blocks are drawn at a time."""

    @property
    def device(self) -> str:
        """The type of the devices: "cpu", "cuda", ..."""

    def open(self, config: RunConfig, objective: Objective | None) -> None:
        """Takes the description of the run.

        Args:
            config: The description.
            objective: Its reward, which counts failed scores.

        Raises:
            GuidedError: The run cannot be drawn elsewhere.
        """

    def draw(self, blocks: list[list[int]], sampler: Sampler | None, progress: Hook) -> Placed:
        """Draws blocks; yields each with its place in the list, as they finish.

        Args:
            blocks: The requests of each block.
            sampler: The sampler; None for that of the description.
            progress: Called often.

        Raises:
            GuidedError: A block cannot be drawn. All blocks before it were yielded.
        """

    def close(self) -> None:
        """Ends all processes."""


def executor_for(config: RunConfig) -> Executor | None:
    """The executor that a description asks for; None if this process draws.

    Raises:
        GuidedError: There is no such executor, or there are no such devices.
    """
    given = config.places
    if given.cluster is not None:
        return given.cluster if not isinstance(given.cluster, str) else _cluster(given.cluster, given.devices)
    names = _names(config)
    return None if len(names) == 1 else _imported(_PROCESSES)(names)


def _names(config: RunConfig) -> list[str]:
    """The device of each process. A model in memory can be sent to processes on CPUs only."""
    given, source = config.places.devices, config.source
    if given is None or isinstance(source.model, str | Path):
        return devices_of(given, source.device)
    names = devices_of(given, "cpu" if isinstance(given, int) else "auto")
    if {*names} != {"cpu"}:
        raise GuidedError(f"{spelled('devices')} is {given}, but the model is in memory; give its name or path")
    return names


def _cluster(text: str, devices: Any) -> Executor:
    """The cluster of a text as "ray?cpus=2"."""
    name, options = split_name(text, repr(text), "option=value", loose=False) if "?" in text else (text, {})
    if name not in _CLUSTERS:
        raise GuidedError(
            f"{spelled('cluster')} is {shown(text)}{nearest(name, _CLUSTERS)}; it must be {', '.join(_CLUSTERS)}"
        )
    if devices is not None and not isinstance(devices, int):
        raise GuidedError(f"{spelled('devices')} is {devices!r}; with {spelled('cluster')} it must be a number")
    values = {key: read_value(value) for key, value in options.items()}
    return _imported(_CLUSTERS[name]).of(actors=devices, **values)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def in_order(batches: Placed) -> Generator[Batch, None, None]:
    """Batches in the order of their places; those that come before their turn are kept."""
    waiting: dict[int, Batch] = {}
    due = 0
    with closing(batches):
        for place, batch in batches:
            waiting[place] = batch
            while due in waiting:
                yield waiting.pop(due)
                due += 1


def numbered(batches: Generator[Batch, None, None]) -> Placed:
    """Batches with their places."""
    with closing(batches):
        yield from enumerate(batches)
