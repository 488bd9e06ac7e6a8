"""What `guided npo train` shows: the progress of a training, and its cost."""

__all__ = ["config_of", "hyperparameters", "train"]

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from guided.cli.console import ProgressBar
from guided.errors import GuidedError, nearest
from guided.fitting.negative.config import NegativeConfig
from guided.names import read_value, split_pair
from guided.runs.options import spelled
from guided.runs.paths import check_folder, read_prompts


def config_of(given: Mapping[str, Any]) -> NegativeConfig:
    """The training that the options describe."""
    config = NegativeConfig.of(**given)
    check_folder(config.out, spelled("out"))
    from guided.storage import refuse_foreign  # imports torch; wrong options are told before

    refuse_foreign(config.out, spelled("out"))
    return config


def train(config: NegativeConfig) -> None:
    """Trains the checkpoint and shows the cost."""
    from guided.fitting.negative.dpo import FlippedDPO
    from guided.fitting.negative.job import train_negative
    from guided.fitting.negative.self_npo import SelfNPO
    from guided.loading import load

    kind: Any = FlippedDPO if config.reward else SelfNPO
    method = kind(**hyperparameters(kind, config.set))
    prompts = None if config.prompts is None else read_prompts(config.prompts)
    model = load(config.model, device=own_device(config.device), dtype=config.dtype, steps=config.sampling_steps)
    reward = None if not config.reward else config.reward[0] if len(config.reward) == 1 else config.reward
    how: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("training", "guidance", "aggregate", "workers", "cache", "trust_rewards")
    }
    with ProgressBar() as bar:
        train_negative(model, config.out, reward=reward, method=method, prompts=prompts, **how, progress=bar)
    show(config.out, bar.used)


def hyperparameters(method: Any, pairs: Sequence[str]) -> dict[str, Any]:
    """The hyperparameters of a method that were given with --set; the method checks their values.

    Raises:
        GuidedError: One is unknown, has no value, or is given twice.
    """
    known = [field.name for field in fields(method) if field.init]
    found: dict[str, Any] = {}
    for pair in pairs:
        split = split_pair(pair)
        name = pair if split is None else split[0]
        if name not in known:
            takes = f"{method.name} takes {', '.join(known)}"
            raise GuidedError(f"{spelled('set')} is {pair!r}{nearest(name, known)}; {takes}")
        if split is None:
            raise GuidedError(f"{spelled('set')} is {pair!r}; it must be {name}=VALUE")
        if name in found:
            raise GuidedError(f"{spelled('set')}: {name} is given twice")
        found[name] = read_value(split[1])
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
    print(f"{out}: {metrics['steps']} updates, {metrics['rows']} rows; {state}")
    print(
        f"loss {describe_loss(metrics)}; "
        f"samples {metrics['seconds of samples']:.0f} s, training {metrics['seconds']:.0f} s"
    )
    print(f"use it as: guided sample MODEL --negative {out} --guidance W")
