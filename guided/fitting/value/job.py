"""The fit of a value in stages: rollouts, training, and samples that measure the reward it reaches."""

__all__ = ["ValueJob"]

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from guided.core.monitor import Progress
from guided.fitting.job import Job
from guided.fitting.state import STATE
from guided.fitting.value.diagnostics import judge
from guided.fitting.value.fit import Fit, Settings, seeded
from guided.fitting.value.regression import effective
from guided.fitting.value.rollouts import Rollouts, read, roll
from guided.fitting.value.shards import Layout
from guided.fitting.value.source import Source
from guided.fitting.value.states import Data
from guided.runs.sample import sample
from guided.samplers import SVDD, Sampler, Unguided
from guided.scoring.objective import Objective
from guided.settings import torch_defaults
from guided.storage import lock, write_network
from guided.values.learned import LearnedValue, relative
from guided.values.load import Factory, load_value, make_network

M = 10  # candidates of SVDD, for the samples that measure the reward


@dataclass(frozen=True, kw_only=True)
class ValueJob(Job):
    """A fit of a value.

    Args:
        source: The model and its prompts.
        objective: The reward.
        settings: The hyperparameters of the fit.
        n: The number of trajectories.
        rolling: `seed`, `states`, `candidates` and `batch_size` of the rollouts.
        network: The network's entry in the configuration.
        factory: The function that makes it.
        rollouts: The folder of the rollouts.
        n_check: The number of samples that are drawn to measure the reward.
    """

    source: Source
    objective: Objective
    settings: Settings
    n: int
    rolling: dict[str, int]
    network: dict[str, Any]
    factory: Factory
    rollouts: Path
    n_check: int

    what: ClassVar[str] = "another value"

    @property
    def config(self) -> dict[str, Any]:
        """All that the value depends on, JSON-able."""
        model = self.source.model
        return {
            "kind": "value",
            "target": self.settings.target,
            "alpha": self.settings.alpha,
            **self.trajectories,
            "n": self.n,
            "network": self.network,
            "fit": self.fitting,
            "times": [model.process.time(0), model.process.time(model.steps)],
        }

    @property
    def fitting(self) -> dict[str, Any]:
        """The hyperparameters of the fit; a regression is not named, as in the folders of before there was another."""
        given = {name: entry for name, entry in asdict(self.settings).items() if name not in ("target", "alpha")}
        return given if given["objective"] != "regression" else {k: v for k, v in given.items() if k != "objective"}

    @property
    def trajectories(self) -> dict[str, Any]:
        """All that the rollouts depend on, JSON-able."""
        steps = self.source.model.steps
        return {
            "model": self.source.description,
            "reward": self.objective.identity,
            "rollouts": {"steps": steps, **self.rolling},
        }

    def check(self) -> None:
        """Refuses a reward for another modality than the model's."""
        self.objective.check(self.source.model.modality)

    def work(self, config: dict[str, Any]) -> dict[str, Any]:
        """Draws rollouts, fits the network, and measures the reward that it reaches."""
        rollouts = self.roll()
        net, results = self.fit(rollouts)
        write_network(self.out / "model.safetensors", net)
        value = LearnedValue(net.requires_grad_(False), {**config, **results}, self.objective)
        results["metrics"]["reward"] = self.reached(value, self.n_check)
        results["metrics"]["seconds"] = round(time.perf_counter() - self.start, 1)
        return results

    @property
    def value(self) -> LearnedValue:
        """The finished value."""
        return load_value(self.out, network=self.factory).bind(self.bound, self.objective)

    @property
    def bound(self) -> Any:
        """The model with all prompts."""
        return self.source.part(list(range(len(self.source.prompts))))

    def roll(self) -> Rollouts:
        """The trajectories; missing ones are drawn."""
        report, counts = self.reporter("rollouts", self.n), self.rolling
        with lock(self.rollouts):  # several values may share them
            self.claim(self.rollouts / "rollouts.json", self.trajectories, "other rollouts")
            roll(self.source.part, self.objective, self.rollouts, self.n, progress=report, **counts)
        layout = Layout.of(self.source.model, counts["states"], counts["candidates"])
        return read(self.rollouts, self.n, counts["batch_size"], layout)

    @torch_defaults()
    def fit(self, rollouts: Rollouts) -> tuple[nn.Module, dict[str, Any]]:
        """The fitted network, and `shift`, `scale` and `metrics`."""
        model, settings = self.source.model, self.settings
        ends = (model.process.time(0), model.process.time(model.steps))
        times = [relative(model.process.time(k), ends) for k in range(model.steps + 1)]
        parts = Data.split(rollouts, times, max(1, len(self.source.prompts)), model.device)
        with seeded(settings.seed, model.device):
            net = make_network(self.network, self.factory).to(model.device)
        fit = Fit(net, *parts, settings)
        fit.run(self.out / STATE, self.reporter("updates", settings.updates))
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

    def reached(self, value: LearnedValue, n: int) -> dict[str, Any] | None:
        """Median rewards of SVDD with this value and of unguided samples, for the same requests."""
        if not n:
            return None
        guided = SVDD(M, self.settings.alpha or 0.0)
        report = self.reporter("check samples", 2 * n)
        medians = [self._median_of(sampler, value, n, report, done) for sampler, done in ((Unguided(), 0), (guided, n))]
        return {"n": n, "sampler": f"SVDD(M={M}, alpha={guided.alpha})", "unguided": medians[0], "guided": medians[1]}

    def _median_of(
        self, sampler: Sampler, value: LearnedValue, n: int, report: Callable[..., None], done: int
    ) -> float | None:
        def progress(state: Progress) -> None:
            report(done + state.done)

        run = sample(
            self.source.model,
            self.objective,
            sampler,
            n,
            self.settings.seed,
            prompt=self.source.cycle(n),
            guidance=self.source.guidance,
            batch_size=self.rolling["batch_size"],
            value=None if isinstance(sampler, Unguided) else value,
            progress=progress,
        )
        report(done + n)
        return _median(run.rewards.tolist())


def _median(rewards: list[float]) -> float | None:
    """The median; None if it is not finite, which JSON cannot hold."""
    median = statistics.median(rewards)
    return median if math.isfinite(median) else None
