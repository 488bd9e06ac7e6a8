"""The table of rewards by name. A reward is a plain batched function: n samples -> n numbers.

    @register_reward("oxygens")
    def oxygens(smiles: list[str]) -> list[float]:
        "Oxygen atoms in the SMILES."
        return [s.upper().count("O") for s in smiles]

A reward with a parameter called `prompts` is given the prompt of each sample there, None in a run without prompts.

A reward says in which form it takes the samples of a run, with `takes`:

| takes | what it is given |
|---|---|
| "samples" | a list of strings or PIL images |
| "tokens" | codes of nucleotides, `(n, L)`, int64: 0 to 3 for A, C, G and T or U, 4 for anything else |
| "pixels" | pixels of images, `(n, 3, H, W)`, uint8 |
| "latents" | clean rows as the model has them, `(n, *event)` |

Tensors are on the model's device, where a tensor of scores, `(n,)`, should be returned. A model that has no tokens or
pixels gives samples instead, and so does whoever calls the reward with a list: it looks at what it is given.

Nothing heavy is imported here, so that the files of rewards can import it freely.
"""

__all__ = ["TAKES", "WORKERS", "RegisteredReward", "find_registered", "register_reward", "rewards", "takes_prompts"]

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from guided.errors import GuidedError, nearest

F = TypeVar("F", bound=Callable[..., Any])
TAKES = {"samples": "any", "tokens": "dna", "pixels": "images", "latents": "any"}  # with the samples that have them
#: Where workers score a reward: in processes of their own, in threads, or not at all: it stays with the model.
WORKERS = ("processes", "threads", "none")
PROMPTS = "prompts"  # the parameter of a reward that is given a prompt for each sample, or None


@dataclass(frozen=True)
class RegisteredReward:
    """A reward in the table.

    Attributes:
        name: what `--reward` takes.
        function: `function(samples, **parameters)`, n samples -> n numbers.
        transform: the default transform ("linear=10,1"), None to take the scores as they are.
        modality: the samples it takes: "molecules" (SMILES), "images", "text", … or "any".
        check: called with the parameters when an objective is built; raises ValueError for wrong ones.
        takes: the form in which it takes samples, one of `TAKES`.
        workers: where it is scored in a run with workers, one of `WORKERS`.
        tolerant: whether samples that fail count as -inf in every run, whatever its failure policy.
        differentiable: whether it also takes real numbers, and torch finds gradients of its scores.
        single: whether a call is given one sample.
        pose: `pose(sample, **parameters)`, the SDF record of what a sample's score comes from; None if there is none.
    """

    name: str
    function: Callable[..., Any]
    transform: str | None = None
    modality: str = "any"
    check: Callable[..., object] | None = None
    takes: str = "samples"
    workers: str = "processes"
    tolerant: bool = False
    differentiable: bool = False
    single: bool = False
    pose: Callable[..., str] | None = None

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
    modality: str | None = None,
    check: Callable[..., object] | None = None,
    takes: str = "samples",
    kind: str | None = None,
    workers: str = "processes",
    tolerant: bool = False,
    differentiable: bool = False,
    single: bool = False,
    pose: Callable[..., str] | None = None,
) -> Callable[[F], F]:
    """Decorator that puts a reward in the table and returns the function unchanged.

    Registering the same function again (a notebook cell that runs twice) replaces it.

    Args:
        name: the name, without any of `? : / &` or spaces.
        transform: the default transform, for example "linear=10,1" or "window=1,4,1".
        modality: the samples that it takes; None for "dna" where it takes tokens, "images" where it takes pixels, and
            "any" otherwise.
        check: called with the parameters at construction; raises ValueError for wrong ones.
        takes: the form in which it takes samples, "samples", "tokens", "pixels" or "latents".
        kind: the former name of `modality`.
        workers: where workers score it: "processes"; "threads" for a function that spends its time in a library that
            releases Python's lock; "none" for a network that is to stay beside the model. One that takes tensors does.
        tolerant: whether samples that fail have no score (-inf) and are counted, where `on_error` would stop a run: for
            a reward that a good sample may fail.
        differentiable: whether it also takes real numbers and returns scores with gradients, for the samplers that
            follow one (:mod:`guided.scoring.relaxed`).
        single: whether a call is given one sample, because one takes seconds: then a time limit is a sample's own, and
            one that fails costs no other a second call.
        pose: `pose(sample, **parameters)`, the SDF record of what a sample's score comes from, raising ValueError
            where there is none.

    Raises:
        ValueError: the name is malformed, another function has it, there is no such form or place, or a reward of
            samples is said to be differentiable.
    """
    if not name or any(c in "?:/&" or c.isspace() for c in name):
        raise GuidedError(f"a reward's name has no spaces and none of ? : / &, given {name!r}")
    if takes not in TAKES:
        raise GuidedError(
            f"reward {name!r} takes {takes!r}{nearest(str(takes), TAKES)}; it is one of {', '.join(TAKES)}"
        )

    if workers not in WORKERS:
        raise GuidedError(f"reward {name!r}: workers is {workers!r}; it is one of {', '.join(map(repr, WORKERS))}")
    if differentiable and takes == "samples":
        raise GuidedError(f"reward {name!r} takes samples, which have no gradient; it must take tensors to have one")
    where = workers if takes == "samples" else "none"

    def register(function: F) -> F:
        other = _table.get(name)
        if other is not None and _origin(other.function) != _origin(function):
            raise GuidedError(f"reward {name!r} is already registered by {'.'.join(_origin(other.function))}")
        _table[name] = RegisteredReward(
            name,
            function,
            transform,
            kind or modality or TAKES[takes],
            check,
            takes,
            where,
            tolerant,
            differentiable,
            single,
            pose,
        )
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
