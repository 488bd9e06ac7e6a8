"""What `guided fit-value` does: fit, tell how far it is, and say how good the value is."""

__all__ = ["FitOptions", "run"]

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guided.cli.console import show_table
from guided.cli.options import check_folder, check_least
from guided.cli.stages import StageBar
from guided.errors import GuidedError

if TYPE_CHECKING:
    from guided.values.learned import LearnedValue

FEW = 10  # rollouts that a soft mean may rest on without a note


@dataclass(frozen=True)
class FitOptions:
    """The options of `guided fit-value`, as they were given.

    Raises:
        GuidedError: A number is out of range, or the folder cannot be used.
    """

    model: str
    reward: Sequence[str]
    out: Path
    target: str = "soft"
    alpha: float = 0.1
    n: int = 2000
    aggregate: str = "mean"
    prompt: Sequence[str] = ()
    guidance: float | None = None
    steps: int | None = None
    states: int = 16
    candidates: int | None = None
    rollouts: Path | None = None
    network: str | None = None
    width: int | None = None
    updates: int = 2000
    lr: float = 2e-3
    check: int = 32
    seed: int = 0
    batch_size: int = 64
    device: str = "auto"
    dtype: str = "float32"
    on_error: str = "stop"
    time_limit: float | None = None

    def __post_init__(self) -> None:
        numbers = (("-n", self.n, 10), ("--states", self.states, 1), ("--candidates", self.candidates, 1))
        more = (("--updates", self.updates, 2), ("--width", self.width, 1), ("--check", self.check, 0))
        check_least(*numbers, *more, ("--steps", self.steps, 1), ("--seed", self.seed, 0))
        check_least(("--batch-size", self.batch_size, 1))
        if not self.reward:
            raise GuidedError("a value needs a --reward; `guided rewards` lists them")
        check_folder(self.out)


def run(options: FitOptions) -> None:
    """The command `guided fit-value`."""
    from guided.fitting.value.fit_value import fit_value
    from guided.loading import load
    from guided.scoring.objective import resolve_reward

    objective = resolve_reward(
        list(options.reward) if len(options.reward) > 1 else options.reward[0],
        aggregate=options.aggregate,
        on_error=options.on_error,
        time_limit=options.time_limit,
    )
    passed = ("target", "alpha", "n", "out", "guidance", "steps", "states", "candidates", "rollouts", "updates", "lr")
    given: dict[str, Any] = {name: getattr(options, name) for name in (*passed, "seed", "batch_size")}
    given |= {"prompt": list(options.prompt) or None, "network": network(options), "n_check": options.check}
    try:
        with StageBar("loss", "held-out loss") as bar:
            model = load(options.model, device=options.device, dtype=options.dtype)
            value = fit_value(model, objective, **given, progress=bar)
        show(value, options.out, bar.used)
    finally:
        objective.close()
    if objective.failures:
        failed = f"{objective.failures} scores failed and count as worst; the first: {objective.first_failure}"
        print(f"note: {failed}", file=sys.stderr)


def network(options: FitOptions) -> str | dict[str, Any] | None:
    """The network as `fit_value` takes it."""
    if options.width is None:
        return options.network
    return {"width": options.width, **({} if options.network is None else {"kind": options.network})}


def show(value: "LearnedValue", out: Path, new: bool) -> None:
    """How good the value is: held-out errors over time, and the reward that is reached."""
    config, metrics = value.config, value.config["metrics"]
    held_out = metrics["held_out"]
    parts = {f"{part['time'][0]:g} to {part['time'][1]:g}": part for part in held_out["bins"]} | {"all": held_out}
    names = ("states", "loss", "rmse", "correlation", "bias")
    show_table(("time", *names), [(time, *(cell(part[name]) for name in names)) for time, part in parts.items()], names)
    alpha = "" if config["alpha"] is None else f", alpha = {config['alpha']:g}"
    state = "finished" if new else "already finished, nothing to do"
    print(f"{out}: the {config['target']} value of {config['n']} rollouts{alpha}; {state}")
    reward = metrics["reward"]
    if reward is not None:
        reached = (
            f"{cell(reward['guided'])} with {reward['sampler']} and this value, {cell(reward['unguided'])} unguided"
        )
        print(f"median reward of {reward['n']} samples: {reached}")
    for note in notes(metrics):
        print(f"note: {note}", file=sys.stderr)


def cell(number: float | None) -> str:
    """A number, or nothing where there is none."""
    return "" if number is None else f"{number:.4g}"


def notes(metrics: dict[str, Any]) -> list[str]:
    """What the user should know before using the value."""
    found, reward = [], metrics["reward"]
    few = metrics["rollouts"]["effective"]
    if few is not None and few < FEW:
        found.append(
            f"alpha is small beside the spread of the rewards: the soft value rests on {few:.1f} effective rollouts; "
            "take a larger alpha, more rollouts, or the target bootstrap or mean"
        )
    if reward and None not in (reward["guided"], reward["unguided"]) and reward["guided"] <= reward["unguided"]:
        found.append("samples guided by this value are no better than unguided ones")
    return found
