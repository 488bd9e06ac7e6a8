"""The table of rewards by name. A reward is a plain batched function: n samples -> n numbers.

    @register_reward("oxygens")
    def oxygens(smiles: list[str]) -> list[float]:
        "Oxygen atoms in the SMILES."
        return [s.upper().count("O") for s in smiles]

A reward with a parameter called `prompts` is given the prompt of each sample there, None in a run without prompts.

Nothing heavy is imported here, so that the files of rewards can import it freely.
"""

__all__ = ["RegisteredReward", "find_registered", "register_reward", "rewards", "takes_prompts"]

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from guided.errors import GuidedError

F = TypeVar("F", bound=Callable[..., Any])
PROMPTS = "prompts"  # the parameter of a reward that is given a prompt for each sample, or None


@dataclass(frozen=True)
class RegisteredReward:
    """A reward in the table.

    Attributes:
        name: what `--reward` takes.
        function: `function(samples, **parameters)`, n samples -> n numbers.
        transform: the default transform ("linear=10,1"), None to take the scores as they are.
        modality: the samples it takes: "molecules" (SMILES), "images", … or "any".
        check: called with the parameters when an objective is built; raises ValueError for wrong ones.
    """

    name: str
    function: Callable[..., Any]
    transform: str | None = None
    modality: str = "any"
    check: Callable[..., object] | None = None

    @property
    def doc(self) -> str:
        """First line of the function's docstring, "" when it has none."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The function's parameters after the samples, by name; `str()` of one reads "radius: int = 2"."""
        return parameters_of(self.function)


_table: dict[str, RegisteredReward] = {}


def register_reward(
    name: str,
    *,
    transform: str | None = None,
    modality: str = "any",
    check: Callable[..., object] | None = None,
    kind: str | None = None,
) -> Callable[[F], F]:
    """Decorator that puts a reward in the table and returns the function unchanged.

    Registering the same function again (a notebook cell that runs twice) replaces it.

    Args:
        name: the name, without any of `? : / &` or spaces.
        transform: the default transform, for example "linear=10,1" or "window=1,4,1".
        modality: the samples that it takes.
        check: called with the parameters at construction; raises ValueError for wrong ones.
        kind: the former name of `modality`.

    Raises:
        ValueError: the name is malformed, or another function has it.
    """
    if not name or any(c in "?:/&" or c.isspace() for c in name):
        raise GuidedError(f"a reward's name has no spaces and none of ? : / &, given {name!r}")

    def register(function: F) -> F:
        other = _table.get(name)
        if other is not None and _origin(other.function) != _origin(function):
            raise GuidedError(f"reward {name!r} is already registered by {'.'.join(_origin(other.function))}")
        _table[name] = RegisteredReward(name, function, transform, kind or modality, check)
        return function

    return register


def rewards() -> dict[str, RegisteredReward]:
    """What is registered, by name, sorted. The built-in ones are there once `guided` was imported."""
    return dict(sorted(_table.items()))


def find_registered(function: object) -> RegisteredReward | None:
    """The entry of the table whose function is this very object, if any."""
    return next((entry for entry in _table.values() if entry.function is function), None)


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Parameters that a user gives: not the samples, which come first, nor their prompts, nor `*args`.

    Empty for a builtin without a signature.
    """
    return {p.name: p for p in _after_samples(function) if p.kind is not p.VAR_POSITIONAL and p.name != PROMPTS}


def takes_prompts(function: Callable[..., Any]) -> bool:
    """Whether a reward wants the prompts of its samples: whether it has a parameter called `prompts`."""
    return any(p.name == PROMPTS for p in _after_samples(function))


def _after_samples(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        return []


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    return getattr(function, "__module__", "?"), getattr(function, "__qualname__", repr(function))
