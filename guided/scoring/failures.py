"""The failure policy: whatever a reward does, n samples give n finite numbers (or -inf), or one clear error.

A batch that raises, hangs or returns the wrong number of scores is scored again sample by sample, so that only the
samples that fail are blamed. They stop the run (on_error="stop") or count as -inf ("worst").
"""

__all__ = ["LARGEST", "Failed", "Failures", "OnError", "as_list", "printable", "short"]

import re
from collections.abc import Callable
from functools import partial
from math import isnan
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from guided.errors import SAMPLES_FAULT, RewardError, out_of_memory
from guided.scoring.limits import Hang, Stopped
from guided.scoring.protocol import Prompts, Samples, Scorer

OnError = Literal["stop", "worst"]
Shown: TypeAlias = "Callable[[], Samples] | None"
WORST = float("-inf")
LARGEST = 1e100  # of a score's absolute value: what is computed with scores must not overflow
NO_ANSWER = ("JSONDecodeError",)  # a server that answers with a page of its own; by name, as of a worker's error
LONGEST = 2000  # characters of a message
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class WrongCount(Exception):
    """The reward did not return one score for each sample."""


class Failed(float):
    """The score of a sample that failed: -inf.

    Attributes:
        message: what happened, with the sample, in one line.
        passing: whether it may go well another time, as after a hang.
    """

    message: str
    passing: bool

    def __new__(cls, message: str, passing: bool = False) -> "Failed":
        self = super().__new__(cls, WORST)
        self.message, self.passing = message, passing
        return self


class Failures:
    """Calls a scorer, checks what it returns, and applies the failure policy.

    Out of memory, it halves the batches that the scorer is given, and remembers it.

    Args:
        name: the reward's name, for messages.
        inner: the scorer.
        on_error: "stop" raises RewardError at the first sample that fails, "worst" counts such samples as -inf.
    """

    def __init__(self, name: str, inner: Scorer, on_error: str = "stop") -> None:
        self.name, self.inner, self.on_error = name, inner, on_error
        self.failures = 0
        self.first_failure: str | None = None
        self.most: int | None = None

    def __call__(self, samples: Samples, prompts: Prompts = None, shown: Shown = None) -> list[float]:
        """Scores of n samples, with a prompt each where there are any: n numbers, finite or -inf (`Failed`).

        Args:
            samples: n samples.
            prompts: their prompts.
            shown: gives what messages call them; None for the samples themselves.

        Raises:
            RewardError: on_error is "stop" and a sample failed; or no sample is to blame (a missing library).
        """
        called, scores = shown or (lambda: samples), list[float]()
        while (done := len(scores)) < len(samples):
            part = slice(done, done + (self.most or len(samples)))
            theirs = None if prompts is None else prompts[part]
            scores += self._batch(samples[part], theirs, partial(_some, called, part)) or ()
        return scores

    def _batch(self, samples: Samples, prompts: Prompts, shown: Callable[[], Samples]) -> list[float] | None:
        """Scores of a batch; None if it is to be tried in smaller ones."""
        try:
            scores = as_list(self.inner(samples, prompts), len(samples))
        except BaseException as error:
            if len(samples) > 1 and out_of_memory(error):
                self.most = len(samples) // 2
                return None
            return self._failed(samples, prompts, shown, error)
        return [self._number(score, partial(_nth, shown, i)) for i, score in enumerate(scores)]

    def tensor(self, samples: torch.Tensor, prompts: Prompts, shown: Callable[[], Samples]) -> torch.Tensor:
        """Scores of n samples that are a tensor, `(n,)`, where they are: they are for :meth:`checked`.

        What is no tensor of n numbers, or raises, is dealt with at once. The arguments are those of a call.

        Raises:
            RewardError: as a call.
            RuntimeError, MemoryError: out of memory, with two samples or more: for who makes the parts smaller.
        """
        try:
            scores = self.inner(samples, prompts)
            if isinstance(scores, torch.Tensor) and scores.shape == (len(samples),) and not scores.is_complex():
                return scores.detach()
            given = as_list(scores, len(samples))
        except BaseException as error:
            if len(samples) > 1 and out_of_memory(error):
                raise
            return torch.tensor(self._failed(samples, prompts, shown, error), dtype=torch.float64, device="cpu")
        numbers = [self._number(score, partial(_nth, shown, i)) for i, score in enumerate(given)]
        return torch.tensor(numbers, dtype=torch.float64, device="cpu")

    def checked(self, scores: NDArray[np.float64], shown: Callable[[], Samples]) -> NDArray[np.float64]:
        """Scores `(n,)` after the failure policy, each finite or -inf; `shown` as in a call.

        Raises:
            RewardError: on_error is "stop" and a sample failed.
        """
        bad = np.flatnonzero(~((np.abs(scores) <= LARGEST) | np.isneginf(scores)))
        if len(bad):
            scores = scores.copy()
            scores[bad] = [self._number(float(scores[i]), partial(_nth, shown, i)) for i in bad.tolist()]
        return scores

    def count(self, failed: Failed) -> Failed:
        """Counts a failure, and returns it."""
        self.failures += 1
        self.first_failure = self.first_failure or failed.message
        return failed

    def cancel(self) -> bool:
        """Ends a call that is under way in another thread; whether that can be done."""
        return self.inner.cancel()

    def close(self) -> None:
        """Ends what is kept running."""
        self.inner.close()

    def _failed(
        self, samples: Samples, prompts: Prompts, shown: Callable[[], Samples], error: BaseException
    ) -> list[float]:
        """Scores after a call that raised: sample by sample, to find those at fault."""
        if isinstance(error, (KeyboardInterrupt, Stopped)):
            raise error
        if isinstance(error, (RewardError, ImportError)):  # no sample's fault: never counted as a bad sample
            raise RewardError(self._describe(error)) from error
        if len(samples) == 1:
            return [self._blame(self._describe(error), shown()[0], error)]
        scores: list[float] = []
        for i in range(len(samples)):
            alone = slice(i, i + 1)
            scores += self(samples[alone], None if prompts is None else prompts[alone], partial(_some, shown, alone))
        if self.on_error == "stop" and not isinstance(error, Hang):  # a slow batch is no failure, its samples passed
            said = f", in a batch of {len(samples)} samples, none of which fails alone"
            if isinstance(error, WrongCount):
                said = "; it must return one number for each sample, as it does when samples are given one at a time"
            raise RewardError(self._describe(error) + said) from error
        return scores

    def _number(self, score: Any, sample: Callable[[], Any]) -> float:
        try:
            number = _as_number(score)
        except Exception:  # an object that raises when it is looked at
            number = None
        if number is None:
            return self._blame(f"reward {self.name!r} returned {short(score)}, which is not a number", sample())
        if isnan(number) or number == -WORST:
            return self._blame(f"reward {self.name!r} returned {number}", sample())
        if abs(number) > LARGEST and number != WORST:
            what = f"returned {short(score)}; a score is at most {LARGEST:g} in size, and the worst is -inf"
            return self._blame(f"reward {self.name!r} {what}", sample())
        return number

    def _blame(self, what: str, sample: Any, cause: BaseException | None = None) -> float:
        message = f"{what}, for sample {short(sample)}"
        if self.on_error == "stop":
            raise RewardError(message) from cause
        passing = cause is not None and (not isinstance(cause, SAMPLES_FAULT) or type(cause).__name__ in NO_ANSWER)
        return self.count(Failed(message, passing))

    def _describe(self, error: BaseException) -> str:
        text = _text_of(error)
        if isinstance(error, (RewardError, Hang)):
            return f"reward {self.name!r} {text}"
        if isinstance(error, WrongCount):
            return f"reward {self.name!r} returned {text}"
        return f"reward {self.name!r} raised {type(error).__name__}{': ' if text else ''}{text}"


def _nth(shown: Callable[[], Samples], i: int) -> Any:
    return shown()[i]


def _some(shown: Callable[[], Samples], part: slice) -> Samples:
    return shown()[part]


def as_list(result: Any, n: int) -> list[Any]:
    """What a reward returned, as a list of n objects (not yet known to be numbers).

    Raises:
        WrongCount: it is not a list, tuple, array, tensor or column of shape (n,); the message says what it is.
    """
    if isinstance(result, torch.Tensor):
        result = (result.detach().double() if result.is_floating_point() else result.detach()).cpu().numpy()
    if hasattr(result, "to_numpy"):  # a column of pandas or polars
        result = result.to_numpy()
    if not isinstance(result, (list, tuple, str, bytes)) and hasattr(result, "__array__"):  # also of jax
        result = np.asarray(result)
    if isinstance(result, np.ndarray):
        if result.shape != (n,):
            raise WrongCount(f"an array of shape {result.shape}, wanted ({n},)")
        return list(result.tolist())
    if not isinstance(result, (list, tuple)):
        raise WrongCount(f"{short(result)}, wanted a sequence of {n} numbers")
    if len(result) != n:
        found = f"{len(result)} score{'' if len(result) == 1 else 's'}"
        raise WrongCount(f"{found} for {n} sample{'' if n == 1 else 's'}")
    return list(result)


def short(value: object) -> str:
    """A sample or a score in a message: its shape, or at most 120 characters."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 400:
        return f"a whole number of {value.bit_length()} bits"
    try:
        text = printable(repr(value))
    except Exception as error:  # also RecursionError
        return f"an object of {type(value).__name__} whose repr raises {type(error).__name__}"
    return text if len(text) <= 120 else text[:117] + "..."


def printable(text: str) -> str:
    """A text on one line, without escape codes and other characters that a terminal would obey."""
    words = " ".join(_ESCAPES.sub("", text).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def _text_of(error: BaseException) -> str:
    try:
        text = printable(str(error))
    except Exception:
        return "an error that cannot be shown"
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def _as_number(score: Any) -> float | None:
    """A score as Python's number; None for what is none; more than LARGEST where it has no float."""
    if type(score) is float:
        return score
    if isinstance(score, (torch.Tensor, np.ndarray)) and score.ndim == 0:
        score = score.item()
    if not isinstance(score, (Real, np.bool_)):
        return None
    try:
        return float(score)
    except OverflowError:
        return LARGEST * 10
