"""A job: what makes a learned value or a negative checkpoint in a folder, and goes on where it was stopped."""

__all__ = ["Job"]

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from guided.core.monitor import Progress
from guided.fitting.state import STATE, drop_state
from guided.scoring.identity import check_trust, recorded
from guided.scoring.objective import Objective
from guided.storage import claim, lock, write_json

CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """A folder to fill: what it is for is checked, the folder locked and claimed, data drawn, weights moved and judged,
    and the card written last, so that a folder with `metrics` in its configuration is finished.

    Args:
        out: The folder.
        objective: The reward, if there is one.
        trust_rewards: Whether a folder is gone on with for a reward that cannot be known to be the same.
        progress: Called often.
    """

    out: Path
    objective: Objective | None
    trust_rewards: bool = False
    progress: Callable[[Progress], None] = lambda state: None
    start: float = field(default_factory=time.perf_counter)

    what: ClassVar[str]  # what another folder holds, in a refusal

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What decides the result, JSON-able."""

    @abstractmethod
    def check(self) -> None:
        """Says what cannot be done before the folder is taken and anything is drawn.

        Raises:
            GuidedError: It cannot be done.
        """

    @abstractmethod
    def work(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """Draws, moves the weights, judges and writes them.

        Args:
            config: The configuration.

        Returns:
            What is added to it, `metrics` among it; None where another process writes that.
        """

    def run(self) -> dict[str, Any]:
        """Does what is left to do; returns the configuration with what was added to it.

        Raises:
            GuidedError: It cannot be done, or the folder is in use, holds something else or cannot be written.
        """
        self.check()
        with self.alone():
            config = self.claimed()
            if "metrics" in config:
                return config
            results = self.work(config)
            if results is not None:
                config |= results
                write_json(self.out / CONFIG, config)
                drop_state(self.out / STATE)
            return config

    def alone(self) -> AbstractContextManager[None]:
        """Keeps other jobs out of the folder."""
        return lock(self.out)

    def claimed(self) -> dict[str, Any]:
        """The configuration in the folder, which is of this job from now on."""
        return self.claim(self.out / CONFIG, self.config, self.what)

    def claim(self, file: Path, config: dict[str, Any], what: str) -> dict[str, Any]:
        """Claims the folder of a configuration, for the same reward."""
        check_trust(file, self.objective.opaque if self.objective else None, self.trust_rewards)
        return claim(file.parent, file.name, recorded(file, config), what)

    def told(self, stage: str, total: int) -> Callable[..., None]:
        """What a stage calls with how much is done, and the loss."""

        def told(done: int, loss: float = math.nan) -> None:
            known = loss if math.isfinite(loss) else None
            self.progress(Progress(stage, done, total, loss=known, seconds=time.perf_counter() - self.start))

        return told
