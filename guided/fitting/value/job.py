"""A fit, stage by stage: rollouts, updates, and samples that show the reward it reaches."""

__all__ = ["FitProgress", "Job"]

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from guided.fitting.state import STATE, drop_state
from guided.fitting.value.diagnostics import judge
from guided.fitting.value.fit import Fit, Settings, seeded
from guided.fitting.value.regression import effective
from guided.fitting.value.rollouts import Rollouts, read, roll
from guided.fitting.value.source import Source
from guided.fitting.value.states import Data
from guided.runs.engine import Progress
from guided.runs.sample import sample
from guided.samplers import SVDD, Sampler, Unguided
from guided.scoring.objective import Objective
from guided.storage import claim, write_json, write_network
from guided.values.learned import LearnedValue, relative
from guided.values.load import Factory, load_value, make_network

M = 10  # of the samples that show the reward


@dataclass(frozen=True)
class FitProgress:
    """How far a fit is: the stage ("rollouts", "updates" or "check samples") and how much of it is done; the held-out
    loss, that of the best constant being 1 (nan before it is known); and the seconds since the start.
    """

    stage: str
    done: int
    total: int
    held_out: float
    seconds: float


@dataclass(frozen=True)
class Job:
    """A fit that is to be done, or to be gone on with.

    Arguments:
        source: The model and its prompts.
        objective: The reward.
        settings: How the network is fitted.
        n: The number of trajectories.
        rolling: `seed`, `states`, `candidates` and `batch_size` of the rollouts.
        network: The network's entry in the configuration.
        factory: What makes it.
        out: The folder of the value.
        rollouts: The folder of the rollouts.
        progress: Told how far it is.
    """

    source: Source
    objective: Objective
    settings: Settings
    n: int
    rolling: dict[str, int]
    network: dict[str, Any]
    factory: Factory
    out: Path
    rollouts: Path
    progress: Callable[[FitProgress], None]
    start: float = field(default_factory=time.perf_counter)

    @property
    def config(self) -> dict[str, Any]:
        """What decides the value, JSON-able."""
        model = self.source.model
        return {
            "kind": "value",
            "target": self.settings.target,
            "alpha": self.settings.alpha,
            **self.trajectories,
            "n": self.n,
            "network": self.network,
            "fit": {name: entry for name, entry in asdict(self.settings).items() if name not in ("target", "alpha")},
            "times": [model.process.time(0), model.process.time(model.steps)],
        }

    @property
    def trajectories(self) -> dict[str, Any]:
        """What decides the rollouts, JSON-able."""
        steps = self.source.model.steps
        return {
            "model": self.source.description,
            "reward": self.objective.identity,
            "rollouts": {"steps": steps, **self.rolling},
        }

    def run(self, n_check: int) -> LearnedValue:
        """Does what is left to do; returns the finished value."""
        config = claim(self.out, "config.json", self.config, "another value")
        if "metrics" in config:
            return load_value(self.out, network=self.factory).bind(self.bound, self.objective)
        rollouts = self.roll()
        net, results = self.fit(rollouts)
        write_network(self.out / "model.safetensors", net)
        value = LearnedValue(net.requires_grad_(False), {**config, **results}, self.objective)
        results["metrics"]["reward"] = self.check(value, n_check)
        results["metrics"]["seconds"] = round(time.perf_counter() - self.start, 1)
        write_json(self.out / "config.json", {**config, **results})
        drop_state(self.out / STATE)
        return load_value(self.out, network=self.factory).bind(self.bound, self.objective)

    @property
    def bound(self) -> Any:
        """The model with all prompts."""
        return self.source.part(list(range(len(self.source.prompts))))

    def roll(self) -> Rollouts:
        """The trajectories, those that are missing drawn."""
        claim(self.rollouts, "rollouts.json", self.trajectories, "other rollouts")
        counts = self.rolling
        roll(self.source.part, self.objective, self.rollouts, self.n, progress=self._told("rollouts", self.n), **counts)
        return read(self.rollouts, self.n, counts["batch_size"])

    def fit(self, rollouts: Rollouts) -> tuple[nn.Module, dict[str, Any]]:
        """The fitted network, and `shift`, `scale` and `metrics`."""
        model, settings = self.source.model, self.settings
        ends = (model.process.time(0), model.process.time(model.steps))
        times = [relative(model.process.time(k), ends) for k in range(model.steps + 1)]
        parts = Data.split(rollouts, times, max(1, len(self.source.prompts)), model.device)
        with seeded(settings.seed, model.device):
            net = make_network(self.network, self.factory).to(model.device)
        fit = Fit(net, *parts, settings)
        fit.run(self.out / STATE, self._told("updates", settings.updates))
        held_out = parts[1].values(fit.scaled, net)
        r = rollouts.r
        metrics = {
            "held_out": judge(held_out, parts[1], settings.alpha, fit.constant),
            "history": fit.history,
            "rollouts": {
                "median": _median(r.tolist()),
                "best": r.max().item(),
                "failed": int((~r.isfinite()).sum()),
                "effective": None if settings.alpha is None else effective(r, settings.alpha),
                "network_rows": rollouts.rows,
            },
        }
        return net, {"shift": fit.scaled.shift, "scale": fit.scaled.scale, "metrics": metrics}

    def check(self, value: LearnedValue, n: int) -> dict[str, Any] | None:
        """Median rewards of SVDD with this value and of the model alone, for the same requests."""
        if not n:
            return None
        guided = SVDD(M, self.settings.alpha or 0.0)
        told = self._told("check samples", 2 * n)
        medians = [self._reached(sampler, value, n, told, done) for sampler, done in ((Unguided(), 0), (guided, n))]
        return {"n": n, "sampler": f"SVDD(M={M}, alpha={guided.alpha})", "unguided": medians[0], "guided": medians[1]}

    def _reached(
        self, sampler: Sampler, value: LearnedValue, n: int, told: Callable[..., None], done: int
    ) -> float | None:
        def progress(state: Progress) -> None:
            told(done + state.request_done)

        run = sample(
            self.source.model,
            self.objective,
            sampler,
            n,
            self.settings.seed,
            prompt=self.source.cycle(n),
            guidance=self.source.guidance,
            batch_size=self.rolling["batch_size"],
            value=value,
            progress=progress,
        )
        told(done + n)
        return _median(run.rewards.tolist())

    def _told(self, stage: str, total: int) -> Callable[..., None]:
        def told(done: int, held_out: float = math.nan) -> None:
            self.progress(FitProgress(stage, done, total, held_out, time.perf_counter() - self.start))

        return told


def _median(rewards: list[float]) -> float | None:
    """None where it is that of failed samples, which is no number of JSON."""
    median = statistics.median(rewards)
    return median if math.isfinite(median) else None
