"""What `guided sample` was asked for, checked before anything heavy is loaded."""

__all__ = ["Options", "check_folder", "check_least", "read_prompts"]

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guided.errors import GuidedError


@dataclass(frozen=True)
class Options:
    """The options of `guided sample`, as they were given; None where they were not.

    Raises:
        GuidedError: A number is out of range, two options exclude each other, or the folder cannot be used.
    """

    model: str
    reward: Sequence[str] = ()
    aggregate: str = "mean"
    sampler: str = "svdd"
    n: int = 64
    M: str | None = None
    alpha: str | None = None
    set: Sequence[str] = ()
    steps: int | None = None
    seed: int = 0
    batch_size: int = 64
    device: str = "auto"
    dtype: str = "float32"
    prompt: str | None = None
    prompts: Path | None = None
    negative_prompt: str | None = None
    guidance: float | None = None
    rescale: float = 0.0
    negative: str | None = None
    image: Path | None = None
    strength: float | None = None
    mask: Path | None = None
    on_error: str = "stop"
    time_limit: float | None = None
    draws: int = 1
    value: Path | None = None
    only: int | None = None
    out: Path | None = None
    report: bool = True

    def __post_init__(self) -> None:
        check_least(
            ("-n", self.n, 1),
            ("--batch-size", self.batch_size, 1),
            ("--steps", self.steps, 1),
            ("--draws", self.draws, 1),
            ("--seed", self.seed, 0),
        )
        if self.only is not None and not 0 <= self.only < self.n:
            raise GuidedError(f"--only is {self.only}; the run has the requests 0 to {self.n - 1}")
        if self.time_limit is not None and not self.time_limit > 0:
            raise GuidedError(f"--time-limit is {self.time_limit}; it must be above 0 seconds")
        for option, choice, known in (
            ("--aggregate", self.aggregate, ("mean", "product")),
            ("--on-error", self.on_error, ("stop", "worst")),
        ):
            if choice not in known:
                raise GuidedError(f"{option} is {choice!r}; it is one of {', '.join(known)}")
        if self.prompt is not None and self.prompts is not None:
            raise GuidedError("--prompt and --prompts exclude each other")
        self._check_guidance()
        self._check_start()
        if not self.reward and self.sampler != "unguided":
            raise GuidedError(f"sampler {self.sampler!r} needs a --reward; `guided rewards` lists them")
        if self.out is not None:
            check_folder(self.out)

    def _check_guidance(self) -> None:
        if not 0 <= self.rescale <= 1:
            raise GuidedError(f"--rescale is {self.rescale}; it must be from 0 to 1")
        needs = (("--negative-prompt", self.negative_prompt), ("--rescale", self.rescale or None))
        for option, given in ((name, given is not None) for name, given in (*needs, ("--negative", self.negative))):
            if given and self.guidance == 1:
                raise GuidedError(f"{option} needs guidance, and --guidance 1 is none; give another weight")

    def _check_start(self) -> None:
        for option, given in (("--strength", self.strength), ("--mask", self.mask)):
            if given is not None and self.image is None:
                raise GuidedError(f"{option} needs an --image to start from")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise GuidedError(f"--strength is {self.strength}; it must be above 0 and at most 1")

    @property
    def sampler_fields(self) -> dict[str, Any]:
        """The sampler's name and the fields that were given, as `sampler_from_dict` takes them."""
        fields = {"name": self.sampler}
        given = [(name, text) for name, text in (("M", self.M), ("alpha", self.alpha)) if text is not None]
        for pair in self.set:
            name, equals, text = pair.partition("=")
            if not equals or not name:
                raise GuidedError(f"--set is {pair!r}; it must be FIELD=VALUE, as in --set N=10")
            given.append((name, text))
        for name, text in given:
            if name in fields:
                raise GuidedError(f"the sampler's {name} is given twice")
            fields[name] = _number(name, text)
        return fields

    def read_prompt(self) -> str | list[str] | None:
        """The prompt of all requests, or one for each: with n = m k requests and k lines, each line m times.

        Raises:
            GuidedError: The file cannot be read or used, or -n is no multiple of the number of lines.
        """
        if self.prompts is None:
            return self.prompt
        lines = read_prompts(self.prompts)
        if self.n % len(lines):
            raise GuidedError(
                f"{str(self.prompts)!r} has {len(lines)} lines and -n is {self.n}; "
                "-n must be a multiple of the number of prompts"
            )
        return [line for line in lines for _ in range(self.n // len(lines))]


def read_prompts(path: Path) -> list[str]:
    """The prompts in a file, one on each line.

    Raises:
        GuidedError: The file cannot be read, is empty, or has an empty line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise GuidedError(f"cannot read the prompts {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise GuidedError(f"the prompts {str(path)!r} are not UTF-8 text") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise GuidedError(f"the prompts {str(path)!r} have an empty line, line {number}; remove it")
    if not lines:
        raise GuidedError(f"the prompts {str(path)!r} are empty; write one on each line")
    return lines


def _number(name: str, text: str) -> Any:
    """A number, or a list of numbers for a schedule over the steps: JSON, whose brackets may be left away."""
    for form in (text, f"[{text}]"):
        try:
            return json.loads(form)
        except ValueError:
            continue
    raise GuidedError(f"the sampler's {name} is {text!r}; it must be a number, or numbers with commas for a schedule")


def check_least(*numbers: tuple[str, float | None, float]) -> None:
    """Raises GuidedError at the first option, with its number and the least that it may be, that is below."""
    for option, number, bound in numbers:
        if number is not None and number < bound:
            raise GuidedError(f"{option} is {number}; it must be at least {bound}")


def check_folder(path: Path) -> None:
    """Says early what would fail late with --out; it makes nothing."""
    if path == Path():
        raise GuidedError("--out is empty; name a folder")
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise GuidedError(f"--out {str(path)!r}: {str(there)!r} is a file; it must be a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise GuidedError(f"--out {str(path)!r}: the folder {str(there)!r} cannot be written")
