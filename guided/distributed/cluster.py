"""Actors of a Ray cluster: each holds the model on a device of its node and draws blocks.

    guided sample dna -r activity -n 100000 --cluster "ray?address=auto&gpus=1" --out /shared/runs/mine

The process that starts the run writes it. A block whose actor or node is lost is drawn again by another; a new actor is
started when the cluster has room. Ray must be installed, as by `pip install "guided[ray]"`, and guided on all nodes.
"""

__all__ = ["Actors", "Ray", "connected"]

import inspect
import os
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from guided.distributed.drawing import Drawing
from guided.distributed.messages import Done, Event, Failed, Lost, Ready, Task
from guided.distributed.tasks import Needs, connected, spread
from guided.errors import GuidedError, check_number, nearest
from guided.runs.config import RunConfig
from guided.scoring.objective import Objective

TRIES = 2  # how often an actor is started that ends before it can draw
POLL = 1.0  # seconds, after which Ctrl-C is seen


class Ray(Drawing):
    """Draws with the actors of a Ray cluster.

    Args:
        actors: Their number; None for as many as the cluster has room for.
        cpus: CPUs of an actor, and its threads.
        gpus: GPUs of an actor; 0 to draw on CPUs.
        resources: Other resources of an actor, as `{"a100": 1}`.
        address: The cluster, as "auto" or "ray://host:10001"; None for the one in `RAY_ADDRESS`, or one that is started
            on this machine.
        reward_tasks: The number of tasks that the samples of a reward's call are split into; 0 to score in the actors.
        reward_cpus: CPUs of such a task.
        reward_resources: Other resources of such a task, as `{"docking": 1}`.

    Raises:
        GuidedError: A number is out of bounds, or Ray is not installed.
    """

    def __init__(
        self,
        actors: int | None = None,
        cpus: float = 1,
        gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        address: str | None = None,
        reward_tasks: int = 0,
        reward_cpus: float = 1,
        reward_resources: Mapping[str, float] | None = None,
    ) -> None:
        self.tasks = check_number("reward_tasks", reward_tasks, int, least=0)
        self.reward = Needs(reward_cpus, 0, dict(reward_resources or {}), address)
        number = None if actors is None else check_number("actors", actors, int, least=1)
        kept = self.reward.cpus if self.tasks else 0
        super().__init__(Actors(number, Needs(cpus, gpus, dict(resources or {}), address), kept))

    @classmethod
    def of(cls, actors: int | None, **options: Any) -> "Ray":
        """The same, from the options after `ray?`.

        Raises:
            GuidedError: There is no such option.
        """
        known = [name for name in inspect.signature(cls).parameters if name != "actors"]
        for name in options:
            if name not in known:
                raise GuidedError(f"ray has no option {name!r}{nearest(name, known)}; it takes {', '.join(known)}")
        return cls(actors, **options)

    def open(self, config: RunConfig, objective: Objective | None) -> None:
        """Takes the description of the run.

        Raises:
            GuidedError: A part of it cannot be sent to another process.
        """
        if objective is not None and self.tasks:
            given = spread(objective, self.reward, self.tasks)
            config = replace(config, rewards=replace(config.rewards, reward=given, workers=0, cache=None))
        super().open(config, objective)


class Drawer:
    """The run in an actor."""

    def __init__(self) -> None:
        self.loaded: Any = None

    def load(self, setup: bytes, device: str, threads: int, folder: str) -> Ready | Failed:
        """Loads the run; relative paths are those of the folder where it was started, if there is one here."""
        from guided.distributed.setup import Loaded, failure

        with suppress(OSError):
            os.chdir(folder)
        try:
            self.loaded = Loaded(setup, device, threads)
        except Exception as error:
            return failure(error)
        return Ready()

    def draw(self, task: Task) -> Done | Failed:
        """Draws a block."""
        drawn: Done | Failed = self.loaded.draw(task, lambda step: None)
        return drawn


@dataclass(eq=False)
class Actor:
    """An actor and what it does."""

    handle: Any
    ready: bool = False
    free: bool = False


@dataclass
class Actors:
    """The actors, as a group.

    Args:
        number: How many; None for as many as the cluster has room for.
        needs: What each needs.
        kept: CPUs that are left to the tasks of rewards.
    """

    number: int | None
    needs: Needs
    kept: float = 0.0
    setup: bytes = b""
    actors: list[Actor] = field(default_factory=list)
    pending: dict[Any, Actor] = field(default_factory=dict)  # by the reference of a call's result
    failed: int = 0
    started: bool = False  # whether the cluster is ours

    @property
    def device(self) -> str:
        """The type of the devices."""
        return "cuda" if self.needs.gpus else "cpu"

    @property
    def size(self) -> int:
        """How many actors there are, or will be.

        Raises:
            GuidedError: The cluster has no room for one.
        """
        if self.number is None:
            self.number = self._room()
        return self.number

    def _room(self) -> int:
        there = self._ray().cluster_resources()
        wanted = {"CPU": self.needs.cpus, "GPU": self.needs.gpus, **self.needs.resources}
        free = {**there, "CPU": there.get("CPU", 0.0) - self.kept}
        room = min([int(free.get(name, 0.0) / need) for name, need in wanted.items() if need] or [1])
        if room < 1:
            raise GuidedError(f"the cluster has no room for an actor with {wanted}; it has {there}")
        return room

    def _ray(self) -> Any:
        ray, new = connected(self.needs.address)
        self.started = self.started or new
        return ray

    def prepare(self, setup: bytes) -> None:
        """Takes what an actor loads at its start."""
        self.setup = setup

    def start(self, n: int) -> None:
        """Starts actors until there are `n`, or all."""
        self._ray()
        while len(self.actors) < min(n, self.size):
            self._start()

    def _start(self) -> None:
        ray = self._ray()
        cls = ray.remote(max_restarts=0, **self.needs.options())(Drawer)
        actor = Actor(cls.remote())
        threads = max(1, int(self.needs.cpus))
        self.pending[actor.handle.load.remote(self.setup, self.device, threads, os.getcwd())] = actor
        self.actors.append(actor)

    def idle(self) -> Sequence[Hashable]:
        """The actors that wait for a block."""
        return [actor for actor in self.actors if actor.free]

    def give(self, worker: Hashable, task: Task) -> None:
        """Gives an idle actor a block."""
        assert isinstance(worker, Actor)
        worker.free = False
        self.pending[worker.handle.draw.remote(task)] = worker

    def events(self) -> Sequence[tuple[Hashable, Event]]:
        """Waits for results.

        Raises:
            GuidedError: Actors end before they can draw.
        """
        ray = self._ray()
        done: list[Any] = []
        while not done:
            done, _ = ray.wait(list(self.pending), timeout=POLL)
        return [self._received(ray, reference) for reference in done]

    def _received(self, ray: Any, reference: Any) -> tuple[Actor, Event]:
        actor = self.pending.pop(reference)
        try:
            event: Event = ray.get(reference)
        except ray.exceptions.RayError as error:
            self.actors.remove(actor)
            why = f"with {type(error).__name__}"
            self._replace(actor, why)
            return actor, Lost(why)
        actor.ready = actor.ready or isinstance(event, Ready)
        actor.free = actor.ready
        return actor, event

    def _replace(self, actor: Actor, why: str) -> None:
        self.failed = 0 if actor.ready else self.failed + 1
        if self.failed == TRIES:
            raise GuidedError(f"an actor cannot be kept running: the last one ended {why}")
        self._start()

    def close(self, patient: bool = True) -> None:
        """Ends the actors, and the cluster if this run has started it."""
        actors, self.actors, self.pending = self.actors, [], {}
        if not actors and not self.started:
            return
        import ray

        for actor in actors if ray.is_initialized() else ():
            ray.kill(actor.handle)
        if self.started:
            self.started = False
            ray.shutdown()
