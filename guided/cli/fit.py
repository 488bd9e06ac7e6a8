"""What `guided fit-value` shows: the progress of a fit, and the quality of the value."""

__all__ = ["fit_value"]

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guided.cli.console import ProgressBar, show_table
from guided.fitting.value.config import FitConfig
from guided.runs.options import spelled
from guided.runs.paths import check_folder

if TYPE_CHECKING:
    from guided.values.learned import LearnedValue

FEW = 10  # effective rollouts below which a note is printed


def config_of(given: Mapping[str, Any]) -> FitConfig:
    """The fit that the options describe."""
    values = dict(given)
    width = values.pop("width", None)
    if width is not None:
        values["network"] = {"width": width, **({"kind": values["network"]} if "network" in values else {})}
    if len(values.get("reward", ())) == 1:
        [values["reward"]] = values["reward"]
    config = FitConfig.of(**values)
    check_folder(config.out, spelled("out"))
    from guided.storage import refuse_foreign  # imports torch; wrong options are told before

    refuse_foreign(config.out, spelled("out"))
    return config


def fit_value(config: FitConfig) -> None:
    """Fits the value and shows how good it is."""
    from guided.cli.sample import show_failures
    from guided.fitting.value.fit_value import fit
    from guided.scoring.objective import resolve_reward

    with closing(resolve_reward(config.reward, **config.how)) as objective:
        with ProgressBar(loss="held-out loss") as bar:
            value = fit(replace(config, reward=objective), bar)
        show(value, config.out, bar.used)
    show_failures(objective)


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
