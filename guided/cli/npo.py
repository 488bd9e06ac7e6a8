"""What `guided npo train` shows: the progress of a training, and its cost."""

__all__ = ["config_of", "hyperparameters", "train"]

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guided.cli.console import ProgressBar
from guided.errors import GuidedError, nearest
from guided.fitting.negative.config import NegativeConfig
from guided.runs.paths import check_folder, read_prompts


def config_of(given: Mapping[str, Any]) -> NegativeConfig:
    """The training that the options describe."""
    config = NegativeConfig.of(**given)
    check_folder(config.out)
    return config


def train(config: NegativeConfig) -> None:
    """Trains the checkpoint and shows the cost."""
    from guided.fitting.negative.dpo import FlippedDPO
    from guided.fitting.negative.job import train_negative
    from guided.fitting.negative.self_npo import SelfNPO
    from guided.loading import load

    kind: Any = FlippedDPO if config.reward else SelfNPO
    try:
        method = kind(**hyperparameters(kind, config.set))
    except TypeError as error:  # a list where a number is wanted
        raise GuidedError(f"--set {' '.join(config.set)}: {error}") from error
    prompts = None if config.prompts is None else read_prompts(config.prompts)
    model = load(config.model, device=own_device(config.device), dtype=config.dtype, steps=config.sampling_steps)
    reward = None if not config.reward else config.reward[0] if len(config.reward) == 1 else config.reward
    how: dict[str, Any] = {"guidance": config.guidance, "aggregate": config.aggregate, "prompts": prompts}
    with ProgressBar() as bar:
        train_negative(model, config.out, reward=reward, method=method, training=config.training, **how, progress=bar)
    show(config.out, bar.used)


def hyperparameters(method: type, pairs: Sequence[str]) -> dict[str, Any]:
    """The hyperparameters of a method that were given with --set.

    Raises:
        GuidedError: One is unknown, or no number.
    """
    known = list(method.__dataclass_fields__)  # type: ignore[attr-defined]
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if name not in known:
            raise GuidedError(f"--set is {pair!r}{nearest(name, known)}; the hyperparameters are {', '.join(known)}")
        if not equals:
            raise GuidedError(f"--set is {pair!r}; write {name}=VALUE")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
        if isinstance(found[name], list | dict):
            raise GuidedError(f"--set {pair}: {name} must be a number")
        if isinstance(found[name], str) and not isinstance(getattr(method, name), str):
            raise GuidedError(f"--set is {pair!r}; {name} must be a number")
    return found


def own_device(device: str) -> str:
    """The device of this process; with `accelerate launch` and `auto`, the GPU of its local rank."""
    rank = os.environ.get("LOCAL_RANK")
    if device == "auto" and rank is not None:
        import torch

        return f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
    return device


def show(out: Path, new: bool) -> None:
    """Shows the cost and the losses of the training."""
    from guided.checkpoints import read_config
    from guided.fitting.negative.card import describe_loss

    metrics = read_config(out).get("metrics")
    if metrics is None:  # another process writes it
        return
    state = "finished" if new else "already finished, nothing to do"
    print(f"{out}: {metrics['steps']} steps, {metrics['rows']} rows; {state}")
    print(
        f"loss {describe_loss(metrics)}; "
        f"samples {metrics['seconds of samples']:.0f} s, training {metrics['seconds']:.0f} s"
    )
    print(f"use it as: guided sample MODEL --negative {out} --guidance W")
