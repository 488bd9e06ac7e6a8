"""Rewards as tasks of a Ray cluster, with resources of their own: docking on CPU nodes, the denoiser on GPU nodes.

    reward = on_ray("dock.py:dock", tasks=32, cpus=1, resources={"docking": 1})
    guided.sample("molecules", reward, n=1000, out="runs/docked")

The samples of a call are split into so many tasks. A task whose node is lost is run again by Ray. Anything with the
`submit` of `concurrent.futures` can take the place of the cluster.
"""

__all__ = ["Needs", "Spread", "Submits", "Tasks", "connected", "on_ray", "spread"]

import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import cloudpickle

from guided.errors import GuidedError, RewardError, check_number
from guided.scoring.failures import as_list
from guided.scoring.objective import Objective, resolve_reward
from guided.scoring.protocol import Prompts, Samples, Scorer
from guided.scoring.registry import rewards
from guided.scoring.sources import Source, find_source

PATIENCE = 10.0  # seconds for the machine of an address
MEMORY = 78 * 2**20  # bytes of the store of a cluster that is started here: blocks are small


class Result(Protocol):
    """What a task will return."""

    def result(self) -> Any:
        """Waits for it."""

    def cancel(self) -> bool:
        """Ends it; whether that can be done."""


class Submits(Protocol):
    """What runs functions elsewhere, as an executor of `concurrent.futures`."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Result:
        """Starts a call."""


@dataclass(frozen=True)
class Needs:
    """What an actor or a task needs of the cluster.

    Args:
        cpus: CPUs.
        gpus: GPUs.
        resources: Other resources, by name.
        address: The cluster; None for the one in `RAY_ADDRESS`, or one that is started on this machine.
    """

    cpus: float = 1
    gpus: float = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    address: str | None = None

    def __post_init__(self) -> None:
        for name, value in {"cpus": self.cpus, "gpus": self.gpus, **self.resources}.items():
            check_number(name, value, float, least=0)

    def options(self) -> dict[str, Any]:
        """The same in Ray's words."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources)}


def connected(address: str | None) -> tuple[Any, bool]:
    """Ray, connected to a cluster, and whether the cluster was started here now.

    Raises:
        GuidedError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise GuidedError("a cluster needs the package ray; pip install 'guided[ray]'") from error
    if ray.is_initialized():
        return ray, False
    address = address or os.environ.get("RAY_ADDRESS")
    _check_listens(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": MEMORY, "num_cpus": os.cpu_count()}
    try:
        ray.init(address=address, logging_level=logging.WARNING, **({} if address else own))
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise GuidedError(f"no Ray cluster at {address!r}: {' '.join(str(error).split())}") from error
    return ray, not address


def _check_listens(address: str | None) -> None:
    """Refuses the address of a machine where nothing listens: Ray itself waits for it for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise GuidedError(f"no Ray cluster at {address!r}: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class Tasks:
    """Runs functions as tasks of a Ray cluster.

    Args:
        needs: What a task needs.
    """

    needs: Needs = field(default_factory=Needs)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Result:
        """Starts a task."""
        ray, _ = connected(self.needs.address)
        return Reference(ray.remote(**self.needs.options())(function).remote(*arguments))


@dataclass(frozen=True)
class Reference:
    """The result of a task of Ray."""

    reference: Any

    def result(self) -> Any:
        """Waits for it."""
        import ray

        return ray.get(self.reference)

    def cancel(self) -> bool:
        """Kills the task."""
        import ray

        ray.cancel(self.reference, force=True)
        return True


class Spread:
    """A scorer that splits the samples of a call into tasks.

    Args:
        payload: The scorer, as `_packed` makes it.
        executor: What runs the tasks.
        tasks: The number of tasks of a call, at most.
    """

    def __init__(self, payload: bytes, executor: Submits, tasks: int) -> None:
        self.payload, self.executor, self.tasks = payload, executor, tasks
        self.running: list[Result] = []

    def __call__(self, samples: Samples, prompts: Prompts = None) -> list[Any]:
        """Scores n samples, in their order."""
        size = -(-len(samples) // self.tasks)
        parts = [slice(start, start + size) for start in range(0, len(samples), size)]
        self.running = [
            self.executor.submit(_scored, self.payload, samples[part], None if prompts is None else prompts[part])
            for part in parts
        ]
        scores: list[Any] = []
        for task in self.running:
            found, error = task.result()
            if error is not None:
                raise error
            scores += found
        return scores

    def cancel(self) -> bool:
        """Ends a call that is under way in another thread; whether that can be done."""
        return all(task.cancel() for task in self.running)

    def close(self) -> None:
        """Nothing is kept running here."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "running": []}


def on_ray(
    reward: Any,
    tasks: int,
    cpus: float = 1,
    gpus: float = 0,
    resources: Mapping[str, float] | None = None,
    address: str | None = None,
    **options: Any,
) -> Objective:
    """A reward whose calls are tasks of a Ray cluster.

    Args:
        reward: What `guided.resolve_reward` takes.
        tasks: The number of tasks that the samples of a call are split into, at most.
        cpus: CPUs of a task.
        gpus: GPUs of a task.
        resources: Other resources of a task, as `{"docking": 1}`.
        address: The cluster; None for the one in `RAY_ADDRESS`, or one that is started on this machine.
        options: `aggregate`, `on_error` and `time_limit`, as for `guided.resolve_reward`.

    Raises:
        GuidedError: There is no such reward, or it cannot be sent to another process.
    """
    needs = Needs(cpus, gpus, dict(resources or {}), address)
    return spread(resolve_reward(reward, **options), needs, check_number("tasks", tasks, int, least=1))


def spread(objective: Objective, needs: Needs, tasks: int, executor: Submits | None = None) -> Objective:
    """The same objective, with each reward's calls split into tasks instead of given to workers of this machine."""
    where = executor or Tasks(needs)
    terms = [
        replace(term, source=replace(term.source, scorer=Spread(_packed(term.source), where, tasks)), pool=None)
        for term in objective.terms
    ]
    return Objective(terms, objective.aggregate)


def _packed(source: Source) -> bytes:
    """A reward as bytes: by its name, or a function by its value.

    Raises:
        GuidedError: It cannot be sent.
    """
    what: Any = source.scorer
    name = source.identity["reward"]
    entry = rewards().get(name)
    registered_here = entry is not None and not entry.function.__module__.startswith("guided.rewards.")
    if source.rebuildable and not registered_here:  # a task has not run the program that registered it
        what = (name, source.identity.get("parameters", {}))
    try:
        return cloudpickle.dumps((list(sys.path), os.getcwd(), cloudpickle.dumps(what)))
    except Exception as error:
        said = " ".join(str(error).split())
        raise GuidedError(f"reward {source.label!r} cannot be sent to another process: {said}") from error


@lru_cache(maxsize=8)
def _scorer(payload: bytes) -> Scorer:
    """The scorer in a process that runs tasks, made once."""
    paths, folder, content = pickle.loads(payload)
    sys.path.extend(path for path in paths if path not in sys.path)
    with suppress(OSError):
        os.chdir(folder)
    what = pickle.loads(content)
    return find_source(*what).scorer if isinstance(what, tuple) else what


def _scored(payload: bytes, samples: Samples, prompts: Prompts) -> tuple[list[Any], Exception | None]:
    """Scores of some samples, or why there are none."""
    try:
        scorer = _scorer(payload)
    except Exception as error:  # no sample is to blame
        return [], RewardError(f"cannot be made in a task: {' '.join(str(error).split())}")
    try:
        return as_list(scorer(samples, prompts), len(samples)), None
    except Exception as error:
        return [], error
