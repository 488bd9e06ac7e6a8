"""What `guided npo train` does: draw the model's own samples, train, tell how far it is and what it took."""

__all__ = ["NegativeOptions", "run"]

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guided.cli.options import check_folder, read_prompts
from guided.errors import GuidedError, nearest


@dataclass(frozen=True)
class NegativeOptions:
    """The options of `guided npo train`, as they were given.

    Raises:
        GuidedError: The folder cannot be used.
    """

    model: str
    out: Path
    reward: Sequence[str] = ()
    aggregate: str = "mean"
    steps: int = 1000
    batch: int = 20
    lr: float | None = None
    lora: int | None = None
    n: int = 512
    prompts: Path | None = None
    guidance: float | None = None
    set: Sequence[str] = ()
    ema: float = 0.99
    accumulate: int = 1
    precision: str = "no"
    sheet: int = 0
    sampling_steps: int | None = None
    seed: int = 0
    batch_size: int = 64
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_folder(self.out)

    def letters(self, method: type) -> dict[str, Any]:
        """The letters of the method that were given with --set.

        Raises:
            GuidedError: One is unknown, or no number.
        """
        known = list(method.__dataclass_fields__)  # type: ignore[attr-defined]
        letters: dict[str, Any] = {}
        for pair in self.set:
            name, equals, text = pair.partition("=")
            if name not in known:
                raise GuidedError(f"--set is {pair!r}{nearest(name, known)}; the letters are {', '.join(known)}")
            if not equals:
                raise GuidedError(f"--set is {pair!r}; write {name}=VALUE")
            try:
                letters[name] = json.loads(text)
            except ValueError:
                letters[name] = text
            if isinstance(letters[name], list | dict):
                raise GuidedError(f"--set {pair}: {name} must be a number")
            if isinstance(letters[name], str) and not isinstance(getattr(method, name), str):
                raise GuidedError(f"--set is {pair!r}; {name} must be a number")
        return letters


def run(options: NegativeOptions) -> None:
    """The command `guided npo train`."""
    from guided.cli.stages import StageBar
    from guided.fitting.negative.dpo import FlippedDPO
    from guided.fitting.negative.job import NegativeTraining, train_negative
    from guided.fitting.negative.self_npo import SelfNPO
    from guided.loading import load

    names = ("steps", "batch", "lr", "lora", "n", "ema", "accumulate", "precision", "sheet", "seed", "batch_size")
    training = NegativeTraining(**{name: getattr(options, name) for name in names})
    kind: Any = FlippedDPO if options.reward else SelfNPO
    try:
        method = kind(**options.letters(kind))
    except TypeError as error:  # a list where a number is wanted
        raise GuidedError(f"--set {' '.join(options.set)}: {error}") from error
    prompts = None if options.prompts is None else read_prompts(options.prompts)
    model = load(options.model, device=own_device(options.device), dtype=options.dtype, steps=options.sampling_steps)
    reward = list(options.reward) if len(options.reward) > 1 else options.reward[0] if options.reward else None
    with StageBar("loss", "loss") as bar:
        train_negative(
            model,
            options.out,
            reward=reward,
            method=method,
            training=training,
            prompts=prompts,
            guidance=options.guidance,
            aggregate=options.aggregate,
            progress=bar,
        )
    show(options.out, bar.used)


def own_device(device: str) -> str:
    """Of one process of several that `accelerate launch` started, the accelerator with its number."""
    rank = os.environ.get("LOCAL_RANK")
    if device == "auto" and rank is not None:
        import torch

        return f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
    return device


def show(out: Path, new: bool) -> None:
    """What it took."""
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
