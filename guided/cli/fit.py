"""What `guided fit-value` does: fit, tell how far it is, and say how good the value is."""

__all__ = ["FitOptions", "run"]

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from guided.cli.console import show_table
from guided.cli.options import check_folder, check_least
from guided.errors import GuidedError

if TYPE_CHECKING:
    from guided.fitting import FitProgress
    from guided.learned import LearnedValue

FEW = 10  # rollouts that a soft mean may rest on without a note
LINES = 10  # of a stage, where standard error is no terminal


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
    from guided.fitting import fit_value
    from guided.models import load
    from guided.objective import resolve_reward

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
        with FitBar() as bar:
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


class FitBar:
    """A progress bar on standard error; a few plain lines for each stage where that is no terminal."""

    def __init__(self) -> None:
        columns = [BarColumn(bar_width=None), TextColumn("{task.fields[text]}", markup=False), TimeRemainingColumn()]
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
        self.plain = not self.bar.console.is_terminal
        self.stage, self.line, self.start, self.first = "", 0, 0.0, 0
        self.used = False

    def __enter__(self) -> "FitBar":
        if not self.plain:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.plain:
            self.bar.stop()

    def __call__(self, state: "FitProgress") -> None:
        self.used = True
        if state.stage != self.stage:
            self.stage, self.line, self.start, self.first = state.stage, 0, time.perf_counter(), state.done
            for task in self.bar.task_ids:
                self.bar.remove_task(task)
            self.bar.add_task("", total=state.total, completed=state.done, text="")
        words = [f"{state.done}/{state.total} {state.stage}"]
        if state.held_out == state.held_out:
            words.append(f"held-out loss {state.held_out:.3f}")
        words.append(f"{(state.done - self.first) / max(time.perf_counter() - self.start, 1e-9):.2f}/s")
        if not self.plain:
            self.bar.update(self.bar.task_ids[0], completed=state.done, text="  ".join(words))
        elif state.done * LINES // state.total > self.line:
            self.line = state.done * LINES // state.total
            print(", ".join(words), file=sys.stderr, flush=True)
