"""What a process needs to draw blocks of a run: its description, and the rewards that a program added."""

__all__ = ["Loaded", "packed"]

import contextlib
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from guided import __version__
from guided.core.monitor import Progress
from guided.distributed.messages import Done, Failed, Step, Task
from guided.errors import GuidedError, shown
from guided.runs.config import PlaceOptions, RunConfig
from guided.runs.job import Job
from guided.runs.sample import resolve
from guided.samplers import resolve_sampler
from guided.scoring.identity import files_of
from guided.scoring.objective import Objective
from guided.scoring.registry import RegisteredReward, register_reward, rewards

EVERY = 0.1  # seconds between two messages about steps


@dataclass(frozen=True)
class Setup:
    """What is sent. Functions and classes of the program itself travel by value, those of modules by their name."""

    config: RunConfig
    rewards: list[RegisteredReward] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)


def packed(config: RunConfig, objective: Objective | None = None) -> bytes:
    """A description as bytes for other processes, which draw its blocks and write nothing.

    Args:
        config: The description.
        objective: Its reward, whose files are to be the same when a process reads them.

    Raises:
        GuidedError: A part of it cannot be sent.
    """
    model = config.source.model
    kind = getattr(getattr(model, "device", None), "type", "cpu")
    if not isinstance(model, str | Path) and kind != "cpu":
        raise GuidedError(f"the model is in memory, on {kind}; give its name or path, so that each process loads it")
    alone = replace(
        config,
        search=replace(config.search, sampler=resolve_sampler(config.search.sampler)),
        run=replace(config.run, out=None, report=False, only=None),
        places=PlaceOptions(),
    )
    own = [entry for entry in rewards().values() if not _shipped(entry)]
    try:
        setup = Setup(alone, own, files_of(objective.identity if objective else None))
        return cloudpickle.dumps((__version__, list(sys.path), cloudpickle.dumps(setup)))
    except Exception as error:
        raise GuidedError(_unsendable(alone, error)) from error


def _shipped(entry: RegisteredReward) -> bool:
    return getattr(entry.function, "__module__", "").startswith("guided.rewards.")


def _unsendable(config: RunConfig, error: Exception) -> str:
    """Which part cannot be sent, in one line."""
    for name, value in config.values().items():
        try:
            cloudpickle.dumps(value)
        except Exception as why:
            said = " ".join(str(why).split())
            return f"{name} {shown(value)} is in memory and cannot be sent to another process ({said}); give its name"
    return f"the run cannot be sent to another process: {' '.join(str(error).split())}"


def _unpacked(setup: bytes) -> Setup:
    """What was sent; modules are looked for where the sender has them, too.

    Raises:
        GuidedError: A module is missing here, or this is another version of the package.
    """
    version, paths, content = pickle.loads(setup)
    if version != __version__:
        raise GuidedError(f"the run is of guided {version}, and a process that draws has {__version__}; install one")
    sys.path[:] = [*paths, *(path for path in sys.path if path not in paths)]
    try:
        return pickle.loads(content)
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise GuidedError(f"a process cannot read the reward, model or sampler that it was sent ({said})") from error


class Loaded:
    """A run in a process that draws blocks of it.

    Args:
        setup: What `packed` has made.
        device: The device of this process; "" for that of the description.
        threads: The number of threads of a CPU; 0 for torch's own choice.

    Raises:
        GuidedError: A name or path does not exist here, or a reward's file was changed since the run was begun.
    """

    def __init__(self, setup: bytes, device: str = "", threads: int = 0) -> None:
        given = _unpacked(setup)
        if threads:
            torch.set_num_threads(threads)
        for entry in given.rewards:
            with contextlib.suppress(GuidedError):  # its module was imported here, too, and has registered it
                register_reward(**_registered(entry))(entry.function)
        config = given.config
        if device and isinstance(config.source.model, str | Path):
            config = replace(config, source=replace(config.source, device=device))
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        self.job: Job = resolve(config)
        now = files_of(self.job.objective.identity if self.job.objective else None)
        if given.files and now != given.files:
            raise GuidedError("a file of the reward was changed since the run was begun, or is another one here")

    def draw(self, task: Task, tell: Callable[[Step], None]) -> Done | Failed:
        """Draws a block.

        Args:
            task: The block.
            tell: Called with the steps, a few times a second.
        """
        last = 0.0

        def stepped(state: Progress) -> None:
            nonlocal last
            if state.step is not None and time.monotonic() - last > EVERY:
                last = time.monotonic()
                tell(Step(state.step, state.steps or 0, state.mean, state.best))

        before = self._failures()
        try:
            [batch] = self.job.draw(task.requests, stepped, task.sampler)
        except Exception as error:
            return failure(error)
        pairs = zip(before, self._failures(), strict=True)
        return Done(batch, [(now[0] - then[0], now[1]) for then, now in pairs])

    def _failures(self) -> list[tuple[int, str | None]]:
        terms = self.job.objective.terms if self.job.objective else ()
        return [(term.raw.failures, term.raw.first_failure) for term in terms]

    def close(self) -> None:
        """Ends what the run keeps running."""
        self.job.close()


def failure(error: Exception) -> Failed:
    """An exception as it can be sent; errors of the user need no traceback."""
    trace = "" if isinstance(error, GuidedError) else "".join(traceback.format_exception(error))
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        return Failed(RuntimeError(f"{type(error).__name__}: {error}"), trace)
    return Failed(error, trace)


def _registered(entry: RegisteredReward) -> dict[str, Any]:
    """The arguments that register a reward again."""
    return {each.name: getattr(entry, each.name) for each in fields(entry) if each.name != "function"}
