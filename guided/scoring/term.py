"""One reward of an objective: where it comes from, how its scores are transformed, and its weight."""

__all__ = ["Term"]

from dataclasses import dataclass, field
from typing import Any

from guided.scoring.cache import Cache, Cached
from guided.scoring.digests import version_of
from guided.scoring.failures import Failures
from guided.scoring.limits import TimeLimit
from guided.scoring.protocol import Prompts, Samples
from guided.scoring.sources import Source
from guided.scoring.transforms import Transform, spell
from guided.scoring.workers import Pool, Spread


@dataclass(frozen=True)
class Term:
    """One reward of an objective.

    Attributes:
        source: the reward.
        weight: > 0.
        transform: maps raw scores to scores; None takes them as they are.
        name: unique in the objective; the name of its columns. "" for the source's label.
        on_error: what a sample that fails does, "stop" or "worst".
        time_limit: seconds that one call may take; None for no limit.
        pool: the workers that score it; None for none.
        cache: where its scores are kept; None for nowhere.
        raw: scores n samples: n numbers, each finite or -inf; applies the failure policy, remembers nothing.
    """

    source: Source
    weight: float = 1.0
    transform: Transform | None = None
    name: str = ""
    on_error: str = "stop"
    time_limit: float | None = None
    pool: Pool | None = field(default=None, compare=False)
    cache: Cache | None = field(default=None, compare=False)
    raw: Failures = field(init=False, compare=False)
    cached: Cached | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        source, raw, cached = self.source, self._failures(), None
        if self.cache is not None and source.takes == "samples":
            version = version_of(source.module)
            identity = {**source.identity, **({"version": version} if version else {})}
            cached = Cached(self.cache, raw, identity, source.prompted)
        object.__setattr__(self, "raw", raw)
        object.__setattr__(self, "cached", cached)

    @property
    def spread(self) -> bool:
        """Whether workers score it."""
        return self.pool is not None and self.source.workers != "none"

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-able: which reward it is, with its weight and transform."""
        spelled = self.transform and spell(self.transform)
        return {**self.source.identity, "weight": self.weight, "transform": spelled}

    def scored(self, samples: Samples, prompts: Prompts = None) -> tuple[list[float], list[bool]]:
        """Raw scores of n samples, and for each whether it was in the cache."""
        if self.cached is None:
            return self.raw(samples, prompts), [False] * len(samples)
        return self.cached(samples, prompts)

    def close(self) -> None:
        """Ends what is kept running, and closes the cache."""
        self.raw.close()
        if self.cache is not None:
            self.cache.close()

    def _failures(self) -> Failures:
        made = self._policy()
        if self.source.single:
            made.most = 1
        return made

    def _policy(self) -> Failures:
        name, scorer = self.name or self.source.label, self.source.scorer
        on_error = "worst" if self.source.tolerant else self.on_error
        if self.pool is not None and self.spread:
            processes = self.source.workers == "processes"
            return Spread(name, scorer, on_error, self.pool, self.time_limit, processes, self.source.changed)
        limited = scorer if self.time_limit is None else TimeLimit(scorer, self.time_limit)
        return Failures(name, limited, on_error)
