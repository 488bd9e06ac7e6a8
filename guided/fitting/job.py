"""A job: makes a learned value or a negative checkpoint in a folder, and can be resumed."""

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
from guided.errors import GuidedError, shown
from guided.fitting.state import STATE, drop_state
from guided.scoring.identity import check_trust, recorded
from guided.scoring.objective import Objective
from guided.storage import claim, lock, write_json

CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """A training that fills a folder: the arguments are checked, the folder is locked and claimed, data are drawn, and
    weights are trained and evaluated. The metrics are written last: a configuration with `metrics` is finished.

    Args:
        out: The folder.
        objective: The reward, if there is one.
        trust_rewards: Whether a folder is resumed even if its reward cannot be checked to be the same.
        progress: Called often.
    """

    out: Path
    objective: Objective | None
    trust_rewards: bool = False
    progress: Callable[[Progress], None] = lambda state: None
    start: float = field(default_factory=time.perf_counter)

    what: ClassVar[str]  # names the contents of another folder, in error messages

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """All that the result depends on, JSON-able."""

    @abstractmethod
    def check(self) -> None:
        """Checks the arguments, before the folder is made and anything is drawn.

        Raises:
            GuidedError: They do not fit together.
        """

    @abstractmethod
    def work(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """Draws data, trains and evaluates the weights, and writes them.

        Args:
            config: The configuration.

        Returns:
            Entries to add to it, with `metrics`; None if another process writes them.
        """

    def run(self) -> dict[str, Any]:
        """Does the work that is left; returns the finished configuration.

        Raises:
            GuidedError: The arguments are wrong, or the folder is in use, holds something else or cannot be written.
        """
        self.check()
        with self.locked():
            config = self.claimed()
            if "metrics" in config:
                self._check_finished(config["metrics"])
                return config
            results = self.work(config)
            if results is not None:
                config |= results
                write_json(self.out / CONFIG, config)
                drop_state(self.out / STATE)
            return config

    def _check_finished(self, metrics: Any) -> None:
        if not isinstance(metrics, dict) or not metrics:
            raise GuidedError(
                f"{str(self.out / CONFIG)!r} has metrics {shown(metrics)}; it must be an object with results, as the "
                "job writes it at the end; use another folder"
            )

    def locked(self) -> AbstractContextManager[None]:
        """Keeps other jobs out of the folder."""
        return lock(self.out)

    def claimed(self) -> dict[str, Any]:
        """The configuration in the folder, which belongs to this job from now on."""
        return self.claim(self.out / CONFIG, self.config, self.what)

    def claim(self, file: Path, config: dict[str, Any], what: str) -> dict[str, Any]:
        """Claims the folder of a configuration file; refuses another reward."""
        check_trust(file, self.objective.opaque if self.objective else None, self.trust_rewards)
        return claim(file.parent, file.name, recorded(file, config), what)

    def reporter(self, stage: str, total: int) -> Callable[..., None]:
        """A function that reports the progress of a stage: how much is done, and the loss."""

        def report(done: int, loss: float = math.nan) -> None:
            known = loss if math.isfinite(loss) else None
            self.progress(Progress(stage, done, total, loss=known, seconds=time.perf_counter() - self.start))

        return report
