"""A reward under guard: whatever the function does, n samples give n finite numbers (or -inf), or one clear error.

A batch that raises, hangs or returns the wrong number of scores is scored again sample by sample, so that only the
guilty samples are blamed. They stop the run (on_error="stop") or count as -inf ("worst").
"""

__all__ = ["Call", "Guard", "Hang", "OnError", "call_limited", "short"]

import threading
from collections.abc import Callable, Sequence
from math import isnan
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from guided.errors import RewardError

OnError = Literal["stop", "worst"]
#: `(samples, limit, prompts) -> scores`; raises Hang when it takes longer than `limit` seconds.
Call: TypeAlias = Callable[[Any, "float | None", "Sequence[str] | None"], object]
WORST = float("-inf")
MAX_HUNG = 16  # a thread cannot be killed: so many may hang at a time before the run stops


class Hang(Exception):
    """A call took longer than the time limit."""


class WrongCount(Exception):
    """The reward did not return one score for each sample."""


class Guard:
    """Calls a reward, checks what it returns, and applies the failure policy.

    Args:
        name: the reward's name, for messages.
        call: the reward.
        on_error: "stop" raises RewardError at the first guilty sample, "worst" counts guilty samples as -inf.
        limit: seconds for one call, None for no limit.
    """

    def __init__(
        self,
        name: str,
        call: Call,
        on_error: str = "stop",
        limit: float | None = None,
    ) -> None:
        self.name, self.on_error, self.limit = name, on_error, limit
        self.failures = 0
        self.first_failure: str | None = None
        self._call = call

    def __call__(self, samples: Any, prompts: Sequence[str] | None = None) -> list[float]:
        """Scores of n samples, with a prompt each where there are any: n numbers, finite or -inf.

        Raises:
            RewardError: on_error is "stop" and a sample failed; or no sample is to blame (a missing library).
        """
        if len(samples) == 0:
            return []
        try:
            scores = self._attempt(samples, prompts)
        except (Exception, SystemExit) as error:
            if isinstance(error, (RewardError, ImportError)):  # no sample's fault: never counted as a bad sample
                raise RewardError(self._describe(error)) from error
            return self._one_by_one(samples, prompts, error)
        return [self._number(score, sample) for score, sample in zip(scores, samples, strict=True)]

    def _attempt(self, samples: Sequence[Any], prompts: Sequence[str] | None) -> list[Any]:
        with torch.no_grad():
            return as_list(self._call(samples, self.limit, prompts), len(samples))

    def _one_by_one(self, samples: Sequence[Any], prompts: Sequence[str] | None, error: BaseException) -> list[float]:
        if len(samples) == 1:
            return [self._blame(self._describe(error), samples[0], error)]
        alone = [slice(i, i + 1) for i in range(len(samples))]
        scores = [score for one in alone for score in self(samples[one], prompts and prompts[one])]
        if self.on_error == "stop" and not isinstance(error, Hang):  # a slow batch is no failure, its samples passed
            raise RewardError(
                f"{self._describe(error)}, in a batch of {len(samples)} samples, none of which fails alone"
            ) from error
        return scores

    def _number(self, score: Any, sample: Any) -> float:
        if type(score) is not float:
            if isinstance(score, (torch.Tensor, np.ndarray)) and score.ndim == 0:
                score = score.item()
            if not isinstance(score, (Real, np.bool_)):
                return self._blame(f"reward {self.name!r} returned {short(score)}, which is not a number", sample)
        if isnan(score) or score == -WORST:
            return self._blame(f"reward {self.name!r} returned {score}", sample)
        return float(score)

    def _blame(self, what: str, sample: Any, cause: BaseException | None = None) -> float:
        message = f"{what}, for sample {short(sample)}"
        if self.on_error == "stop":
            raise RewardError(message) from cause
        self.failures += 1
        self.first_failure = self.first_failure or message
        return WORST

    def _describe(self, error: BaseException) -> str:
        if isinstance(error, RewardError):
            return f"reward {self.name!r} {error}"
        if isinstance(error, Hang):
            return f"reward {self.name!r} took longer than {self.limit:g} s"
        if isinstance(error, WrongCount):
            return f"reward {self.name!r} returned {error}"
        text = " ".join(str(error).split())
        return f"reward {self.name!r} raised {type(error).__name__}{': ' if text else ''}{text}"


def as_list(result: object, n: int) -> list[Any]:
    """What a reward returned, as a list of n objects (not yet known to be numbers).

    Raises:
        WrongCount: it is not a list, tuple, array or tensor of shape (n,); the message says what it is.
    """
    if isinstance(result, torch.Tensor):
        result = (result.detach().double() if result.is_floating_point() else result.detach()).cpu().numpy()
    if hasattr(result, "to_numpy"):  # a column of pandas or polars
        result = result.to_numpy()
    if isinstance(result, np.ndarray):
        if result.shape != (n,):
            raise WrongCount(f"an array of shape {result.shape}, wanted ({n},)")
        return list(result.tolist())
    if not isinstance(result, (list, tuple)):
        raise WrongCount(f"{short(result)}, wanted a sequence of {n} numbers")
    if len(result) != n:
        raise WrongCount(f"{len(result)} scores for {n} samples")
    return list(result)


_hung: list[threading.Thread] = []


def call_limited(function: Callable[[], object], limit: float | None) -> object:
    """`function()`, in a daemon thread when there is a limit in seconds.

    Raises:
        Hang: it takes longer than the limit. Its thread goes on in the background.
        RewardError: too many threads hang already.
    """
    if limit is None:
        return function()
    _hung[:] = [thread for thread in _hung if thread.is_alive()]
    if len(_hung) >= MAX_HUNG:
        raise RewardError(f"hangs: {MAX_HUNG} calls still have not returned, and a thread cannot be ended")
    outcome: list[tuple[object, BaseException | None]] = []

    def work() -> None:
        try:
            with torch.no_grad():  # the setting belongs to a thread
                outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=work, daemon=True, name="reward")
    thread.start()
    thread.join(limit)
    if not outcome:
        _hung.append(thread)
        raise Hang
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def short(value: object) -> str:
    """A sample or a score in a message: its shape, or at most 120 characters."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
