"""The objective: rewards, each with a transform and a weight, aggregated into one number for each sample.

reward(x) = sum_i w_i T_i(r_i(x)) / sum w        or        prod_i T_i(r_i(x))^(w_i / sum w)
"""

__all__ = ["Aggregate", "Objective", "RewardSpec", "Term", "resolve_reward"]

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from guided.errors import GuidedError, RewardError
from guided.scoring.failures import Guard, OnError, short
from guided.scoring.specification import Draft, RewardSpec, draft_all, from_spec, unique_names
from guided.scoring.transforms import Transform, spell, weighted_mean, weighted_product

Aggregate = Literal["mean", "product"]
Samples: TypeAlias = "Sequence[Any] | torch.Tensor | NDArray[Any]"
Prompts: TypeAlias = "Sequence[str] | None"  # one for each sample
MEMO_SIZE = 1_000_000  # distinct samples; about 300 bytes each


@dataclass(frozen=True)
class Term:
    """One reward of an objective.

    Attributes:
        name: unique in the objective; the name of its columns.
        weight: > 0.
        transform: maps raw scores to scores; None takes them as they are.
        raw: scores n samples: n numbers, each finite or -inf; applies the failure policy, remembers nothing.
        identity: JSON-able, says which reward it is.
        kind: the samples that it takes, "any" for all.
    """

    name: str
    weight: float
    transform: Transform | None
    raw: Guard
    identity: dict[str, Any]
    rebuildable: bool
    close: Callable[[], None]
    prompted: bool = False
    kind: str = "any"


class Objective:
    """What a sampler maximises: `objective(samples)` is a float64 CPU tensor `(n,)`, higher is better.

    Samples that are text are scored once each: equal ones share a score, within a batch and between batches.
    `resolve_reward` builds it.

    Attributes:
        terms: the rewards.
        aggregate: "mean" or "product".
        prompted: whether a reward wants the samples' prompts; the same sample has a score for each prompt then.
        calls: samples that were really scored.
    """

    def __init__(self, terms: Sequence[Term], aggregate: str = "mean") -> None:
        self.terms, self.aggregate = tuple(terms), aggregate
        self.prompted = any(term.prompted for term in self.terms)
        self.calls = 0
        self._memo: OrderedDict[Hashable, tuple[float, ...]] = OrderedDict()
        self._weights = np.array([term.weight for term in self.terms])

    @property
    def name(self) -> str:
        """The only reward's name, or `mean(qed, sa)`."""
        names = [term.name for term in self.terms]
        return names[0] if len(names) == 1 else f"{self.aggregate}({', '.join(names)})"

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-able; equal for equal objectives. A file is in it with its SHA-256, a function by name."""
        terms = [
            {**term.identity, "weight": term.weight, "transform": term.transform and spell(term.transform)}
            for term in self.terms
        ]
        return {"terms": terms, "aggregate": self.aggregate}

    @property
    def spec(self) -> dict[str, Any] | None:
        """The identity if `resolve_reward` can rebuild the objective from it, None with a function that has no name."""
        return self.identity if all(term.rebuildable for term in self.terms) else None

    @property
    def failures(self) -> int:
        """Scores that failed and counted as -inf (on_error="worst")."""
        return sum(term.raw.failures for term in self.terms)

    @property
    def first_failure(self) -> str | None:
        """What the first failure was, in one line, if there was any."""
        return next((term.raw.first_failure for term in self.terms if term.raw.first_failure), None)

    def __call__(self, samples: Samples, prompts: Prompts = None) -> torch.Tensor:
        """Rewards of n decoded samples, with shape `(n,)`, float64 on the CPU; finite or -inf.

        Raises:
            RewardError: a reward failed (on_error="stop"), or a term of a product is negative.
        """
        return torch.from_numpy(self._aggregated(self._transformed(self._raw(samples, prompts)), samples))

    def columns(self, samples: Samples, prompts: Prompts = None) -> dict[str, list[float]]:
        """For each term "<name>_raw" and "<name>" (transformed), then "reward" (aggregated); n numbers each."""
        raw = self._raw(samples, prompts)
        scores = self._transformed(raw)
        table = {}
        for term, before, after in zip(self.terms, raw, scores, strict=True):
            table[f"{term.name}_raw"], table[term.name] = before.tolist(), after.tolist()
        return {**table, "reward": self._aggregated(scores, samples).tolist()}

    def check(self, kind: str) -> None:
        """Raises GuidedError if a reward is one of another kind of samples than those of a model; "" for unknown."""
        for term in self.terms:
            wanted = {"any", kind, "images" if kind == "videos" else kind}  # a video is scored frame by frame
            if kind and term.kind not in wanted:
                raise GuidedError(f"reward {term.name!r} is one of {term.kind}, and the model's samples are {kind}")

    def clear(self) -> None:
        """Forgets the scores of the samples seen so far."""
        self._memo.clear()

    def close(self) -> None:
        """Ends external programs; the next call would start them again."""
        for term in self.terms:
            term.close()

    def _raw(self, samples: Samples, prompts: Prompts) -> NDArray[np.float64]:
        """Raw scores `(T, n)`. Text is its own key, with its prompt where that matters; any other sample is nobody's
        duplicate. Arrays stay arrays.
        """
        if prompts is not None and len(prompts) != len(samples):
            raise GuidedError(f"there are {len(prompts)} prompts for {len(samples)} samples; give one for each")
        prompts = prompts if self.prompted else None
        if isinstance(samples, torch.Tensor | np.ndarray):
            self.calls += len(samples)
            scores = [term.raw(samples, prompts) for term in self.terms]
            return np.array(scores, dtype=np.float64).reshape(-1, len(samples))
        keys = [_key(sample, i, prompts) for i, sample in enumerate(samples)]
        known: dict[Hashable, tuple[float, ...]] = {}
        fresh: dict[Hashable, int] = {}
        for i, key in enumerate(keys):
            if key in self._memo:
                self._memo.move_to_end(key)
                known[key] = self._memo[key]
            else:
                fresh[key] = i
        if fresh:
            self.calls += len(fresh)
            new, theirs = ([it[i] for i in fresh.values()] if it is not None else None for it in (samples, prompts))
            by_term = [term.raw(new, theirs) for term in self.terms]
            known.update(zip(fresh, zip(*by_term, strict=True), strict=True))
            self._remember({key: known[key] for key in fresh if not isinstance(key, int)})
        table = np.array([known[key] for key in keys], dtype=np.float64).reshape(len(keys), len(self.terms))
        return np.ascontiguousarray(table.T)

    def _remember(self, scores: dict[Hashable, tuple[float, ...]]) -> None:
        self._memo.update(scores)
        while len(self._memo) > MEMO_SIZE:
            self._memo.popitem(last=False)

    def _transformed(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        pairs = zip(self.terms, raw, strict=True)
        return np.stack([term.transform(scores) if term.transform else scores for term, scores in pairs])

    def _aggregated(self, scores: NDArray[np.float64], samples: Samples) -> NDArray[np.float64]:
        if self.aggregate == "mean":
            return weighted_mean(scores, self._weights)
        for i, j in np.argwhere((scores < 0) & ~np.isneginf(scores))[:1]:
            raise RewardError(
                f"a weighted product takes scores >= 0, but reward {self.terms[i].name!r} gave {scores[i, j]:g} "
                f"for sample {short(samples[j])}: give it a transform (linear=, sigmoid= or window=)"
            )
        return weighted_product(scores, self._weights)


def resolve_reward(
    spec: RewardSpec,
    *,
    aggregate: str = "mean",
    on_error: str = "stop",
    time_limit: float | None = None,
) -> Objective:
    """The objective that a reward's specification stands for.

    Args:
        spec: a name; "name?key=value&key=value" (weight=, linear=, sigmoid=, window=, and the function's parameters);
            a function; "package.module:function"; "path/file.py:function"; "exec:program arguments" or the path of an
            executable file; a mapping of these to weights; a list of these; an `Objective.spec`; or an Objective, which
            is returned as it is.
        aggregate: "mean" or "product", both weighted.
        on_error: "stop" raises RewardError at the first sample that fails, "worst" counts it as -inf.
        time_limit: seconds that one call of a reward may take; None for no limit.

    Raises:
        GuidedError: nothing is known by that name, a parameter is wrong, a weight is not > 0, …
    """
    if isinstance(spec, Objective):
        return spec
    if isinstance(spec, Mapping) and "terms" in spec:
        drafts, aggregate = from_spec(spec), spec.get("aggregate", "mean")
    else:
        drafts = draft_all(spec)
    for name, value, accepted in (("aggregate", aggregate, Aggregate), ("on_error", on_error, OnError)):
        if value not in get_args(accepted):
            raise GuidedError(f"{name} is {' or '.join(map(repr, get_args(accepted)))}, given {value!r}")
    if time_limit is not None and not time_limit > 0:
        raise GuidedError(f"time_limit is a number of seconds > 0, given {time_limit!r}")
    names = unique_names([draft.source.label for draft in drafts])
    return Objective([_term(*pair, on_error, time_limit) for pair in zip(names, drafts, strict=True)], aggregate)


def _term(name: str, draft: Draft, on_error: str, limit: float | None) -> Term:
    source = draft.source
    guard = Guard(name, source.call, on_error, limit)
    return Term(
        name,
        draft.weight,
        draft.transform,
        guard,
        source.identity,
        source.rebuildable,
        source.close,
        source.prompted,
        source.kind,
    )


def _key(sample: object, i: int, prompts: Prompts) -> Hashable:
    """What equal samples share: text, with its prompt where there is one; its place for any other sample."""
    if not isinstance(sample, str):
        return i
    return sample if prompts is None else (sample, prompts[i])
