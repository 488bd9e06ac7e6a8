"""From a reward's specification to the list of its terms, before they get unique names and a failure policy."""

__all__ = ["RewardSpec", "from_spec", "terms_of", "unique_names"]

import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from guided.errors import GuidedError
from guided.names import split_name
from guided.scoring.failures import short
from guided.scoring.identity import changed
from guided.scoring.sources import find_source
from guided.scoring.term import Term
from guided.scoring.transforms import TRANSFORMS, Transform, parse_transform

RewardSpec = Any  # str | Callable | Mapping[str | Callable, float] | Sequence of these | Objective
_RESERVED = ("weight", *TRANSFORMS)
_OTHER_COLUMNS = ("request", "seed", "sample", "reward", "first_call", "reward_calls", "network_rows")  # of samples.csv
# A command line may have a ? of its own, so only a tail that is made of reserved keys is a query.
_TAIL = re.compile(rf"(.*)\?((?:{'|'.join(_RESERVED)})=[^?&\s]*(?:&(?:{'|'.join(_RESERVED)})=[^?&\s]*)*)$", re.DOTALL)


def terms_of(spec: RewardSpec) -> list[Term]:
    """The terms of a specification: one for a text or function, one for each entry of a mapping or list."""
    if isinstance(spec, str) or callable(spec):
        return [_term(spec)]
    if isinstance(spec, Mapping):
        terms = [_term(reward, weight) for reward, weight in spec.items()]
    elif isinstance(spec, Sequence):
        terms = [term for reward in spec for term in terms_of(reward)]
    else:
        raise GuidedError(
            f"a reward is a name, a function, a mapping of these to weights, or a list of these, given {short(spec)}"
        )
    if not terms:
        raise GuidedError("an objective needs at least one reward, given none")
    return terms


def from_spec(spec: Mapping[str, Any]) -> list[Term]:
    """The terms of an `Objective.spec`, of this version or a former one.

    Raises:
        GuidedError: a file or program has changed since; or as `find_source`.
    """
    terms = []
    for term in spec["terms"]:
        source = find_source(term["reward"], term.get("parameters", {}))
        if changed(term, source.identity) is not None:
            raise GuidedError(f"reward {term['reward']!r} is not the same any more: its file has changed")
        terms.append(Term(source, _weight(term["weight"]), _transform(term["transform"])))
    return terms


def unique_names(labels: Sequence[str]) -> list[str]:
    """Names whose columns "<name>" and "<name>_raw" are no other column's: "qed", "qed#2", …; "reward#1"."""
    taken, names = {*_OTHER_COLUMNS}, []
    for label in labels:
        name, number = label, int(label not in _OTHER_COLUMNS)
        while {name, f"{name}_raw"} & taken:
            number += 1
            name = f"{label}#{number}"
        taken |= {name, f"{name}_raw"}
        names.append(name)
    return names


def _term(reward: str | Callable[..., Any], weight: object = None) -> Term:
    if not isinstance(reward, str):
        source = find_source(reward, {})
        return Term(source, _weight(weight), _transform(source.transform))
    base, given = _split(reward.strip())
    chosen = [key for key in TRANSFORMS if key in given]
    if len(chosen) > 1:
        raise GuidedError(f"reward {reward!r} has more than one transform: {', '.join(chosen)}")
    if weight is not None and "weight" in given:
        raise GuidedError(f"reward {reward!r} has two weights: {given['weight']} and {weight}")
    transform = _transform(f"{chosen[0]}={given[chosen[0]]}", reward) if chosen else None
    weight = _weight(given.get("weight", weight), reward)
    source = find_source(base, {key: value for key, value in given.items() if key not in _RESERVED})
    return Term(source, weight, transform or _transform(source.transform))


def _split(reward: str) -> tuple[str, dict[str, str]]:
    if not reward.startswith("exec:"):
        return split_name(reward, f"reward {reward[:200]!r}")
    tail = _TAIL.match(reward)
    return (tail[1], split_name(f"?{tail[2]}", f"reward {reward[:200]!r}")[1]) if tail else (reward, {})


def _weight(value: object, reward: str = "") -> float:
    try:
        weight = 1.0 if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        weight = float("nan")
    if not (isfinite(weight) and weight > 0):
        raise GuidedError(f"{f'reward {reward!r}: ' if reward else ''}a weight is a number > 0, given {value!r}")
    return weight


def _transform(text: str | None, reward: str = "") -> Transform | None:
    try:
        return parse_transform(text) if text is not None else None
    except ValueError as error:
        raise GuidedError(f"{f'reward {reward!r}: ' if reward else ''}{error}") from error
