"""The objective: rewards, each with a transform and a weight, aggregated into one number for each sample.

reward(x) = sum_i w_i T_i(r_i(x)) / sum w        or        prod_i T_i(r_i(x))^(w_i / sum w)        or as
:mod:`guided.scoring.scalarise` says; constraints take off what they are violated by.
"""

__all__ = ["Objective", "RewardSpec", "Term", "resolve_reward"]

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from guided.core.batching import Evaluator
from guided.core.codec import Codec
from guided.core.views import EachPrompt, Views
from guided.errors import GuidedError, RewardError, check_number
from guided.rewards.support.settings import on_device
from guided.scoring.cache import Cache
from guided.scoring.failures import OnError, short
from guided.scoring.protocol import Prompts, Samples
from guided.scoring.relaxed import obstacle, relaxed
from guided.scoring.rows import RowScores, takes_rows
from guided.scoring.scalarise import Aggregate, scalarise
from guided.scoring.specification import RewardSpec, from_spec, terms_of, unique_names
from guided.scoring.term import Term
from guided.scoring.transforms import is_constraint
from guided.scoring.workers import MOST_WORKERS, Pool

_MODALITIES = {"dna": "DNA and RNA"}  # in words
MEMO_SIZE = 1_000_000  # distinct samples; about 300 bytes each


class Objective:
    """What a sampler maximises: `objective(samples)` is a float64 CPU tensor `(n,)`, higher is better.

    Samples that are text are scored once each: equal ones share a score, within a batch and between batches.
    `resolve_reward` builds it.

    Attributes:
        terms: the rewards.
        aggregate: "mean", "product" or "tchebycheff".
        prompted: whether a reward wants the samples' prompts; the same sample has a score for each prompt then.
        takes: the forms in which the rewards take samples.
        cached: of the samples that were scored, those for which no reward was called: their scores were in the cache.
    """

    def __init__(self, terms: Sequence[Term], aggregate: str = "mean") -> None:
        self.terms, self.aggregate = tuple(terms), aggregate
        self.prompted = any(term.source.prompted for term in self.terms)
        self.takes = frozenset(term.source.takes for term in self.terms)
        self._calls, self._rows = 0, RowScores(self.terms)
        self.cached = 0
        self._memo: OrderedDict[Hashable, tuple[float, ...]] = OrderedDict()
        self._weights = np.array([term.weight for term in self.terms])
        self._constraints = np.array([is_constraint(term.transform) for term in self.terms])

    @property
    def calls(self) -> int:
        """Samples that were scored, by the rewards or from the cache."""
        return self._calls + self._rows.calls

    @property
    def name(self) -> str:
        """The only reward's name, or `mean(qed, sa)`."""
        names = [term.name for term in self.terms]
        return names[0] if len(names) == 1 else f"{self.aggregate}({', '.join(names)})"

    @property
    def objectives(self) -> list[Term]:
        """The terms that are no constraints."""
        return [term for term in self.terms if not is_constraint(term.transform)]

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-able; equal for equal objectives. What scores depend on is in it as digests, where it can be known."""
        return deepcopy({"terms": [term.identity for term in self.terms], "aggregate": self.aggregate})

    @property
    def spec(self) -> dict[str, Any] | None:
        """The identity if `resolve_reward` can rebuild the objective from it, None with a function that has no name."""
        return self.identity if all(term.source.rebuildable for term in self.terms) else None

    @property
    def opaque(self) -> str | None:
        """Why equal identities may be of different objectives, in one line; None if that cannot be."""
        said = ((term.name, term.source.opaque) for term in self.terms)
        return next((f"reward {name!r} cannot be told from another: {why}" for name, why in said if why), None)

    @property
    def obstacle(self) -> str | None:
        """Why it has no gradient, in one line; None if it has."""
        return obstacle(self.terms, self.aggregate)

    def relaxed(self, rows: torch.Tensor, codec: Codec, prompts: EachPrompt | None = None) -> torch.Tensor:
        """Rewards with gradients of n clean rows in real numbers, with shape `(n,)` (:mod:`guided.scoring.relaxed`).

        Who asks counts them, with `count`: some of the rows may be copies that fill a micro-batch.

        Raises:
            GuidedError: it has no gradient.
        """
        if self.obstacle:
            raise GuidedError(self.obstacle)
        return relaxed(self.terms, rows, codec, prompts if self.prompted else None)

    def count(self, n: int) -> None:
        """Counts rows that were scored by `relaxed`."""
        self._calls += n

    @property
    def failures(self) -> int:
        """Scores that failed and counted as -inf (on_error="worst")."""
        return sum(term.raw.failures for term in self.terms)

    @property
    def first_failure(self) -> str | None:
        """What the first failure was, in one line, if there was any."""
        return next((term.raw.first_failure for term in self.terms if term.raw.first_failure), None)

    def __call__(self, samples: Samples, prompts: Prompts = None, parts: Evaluator | None = None) -> torch.Tensor:
        """Rewards of n samples, with shape `(n,)`, float64 on the CPU; finite or -inf.

        Args:
            samples: decoded samples; or the views of clean rows, of which each reward is given the one that it takes.
            prompts: a prompt for each.
            parts: how many clean rows a reward of tensors is given at a time; None for all.

        Raises:
            RewardError: a reward failed (on_error="stop"), or a term of a product is negative.
        """
        return torch.from_numpy(self._aggregated(self.scores(samples, prompts, parts), samples))

    def scores(self, samples: Samples, prompts: Prompts = None, parts: Evaluator | None = None) -> NDArray[np.float64]:
        """The transformed score of each of T terms for each of n samples, `(T, n)`; finite or -inf.

        Raises:
            RewardError: a reward failed (on_error="stop").
        """
        return self._transformed(self._raw(samples, prompts, parts))

    def preferred(self, scores: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rewards, with shape `(*)`, where samples have weights of their own.

        Args:
            scores: Transformed scores, with shape `(T, *)`.
            weights: Of those terms that are no constraints, with shape `(T', *)`, or one that broadcasts to it. They
                multiply the terms' own weights.

        Raises:
            RewardError: a term of a product is negative.
        """
        shape = (len(self.terms), *[1] * (scores.ndim - 1))
        full = np.broadcast_to(self._weights.reshape(shape), (len(self.terms), *weights.shape[1:])).copy()
        full[~self._constraints] *= weights
        self._check_product(scores, None)
        return scalarise(scores, full, self._constraints, self.aggregate)

    def columns(
        self, samples: Samples, prompts: Prompts = None, weights: NDArray[np.float64] | None = None
    ) -> dict[str, list[float]]:
        """For each term "<name>_raw" and "<name>" (transformed), then "reward" (aggregated); n numbers each.

        With weights `(T', n)`, of the terms that are no constraints, there is also a column "<name>_weight" for each.
        """
        raw = self._raw(samples, prompts)
        scores = self._transformed(raw)
        table = {}
        for term, before, after in zip(self.terms, raw, scores, strict=True):
            table[f"{term.name}_raw"], table[term.name] = before.tolist(), after.tolist()
        if weights is None:
            return {**table, "reward": self._aggregated(scores, samples).tolist()}
        for term, given in zip(self.objectives, weights, strict=True):
            table[f"{term.name}_weight"] = given.tolist()
        return {**table, "reward": self.preferred(scores, weights).tolist()}

    def check(self, modality: str) -> None:
        """Raises GuidedError if a reward is one of other samples than those of a model; "" for unknown."""
        for term in self.terms:
            known, own = term.source.modality, modality
            wanted = {"any", own, "images" if own == "videos" else own}  # a video is scored frame by frame
            if own and known not in wanted:
                scored, given = _MODALITIES.get(known, known), _MODALITIES.get(own, own)
                raise GuidedError(f"reward {term.name!r} scores {scored}; the samples of this model are {given}")

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers `calls` and `cached`."""
        return self.calls, self.cached

    @property
    def spread(self) -> bool:
        """Whether workers score some of it, so that something else can be done meanwhile."""
        return any(term.spread for term in self.terms)

    def session(self) -> "Objective":
        """The same rewards with a memo and counters of their own, as for one batch of a run."""
        return Objective(self.terms, self.aggregate)

    def add(self, session: "Objective") -> None:
        """Adds the counts of a session."""
        self._calls, self.cached = self._calls + session.calls, self.cached + session.cached

    def cancel(self) -> None:
        """Ends calls that are under way in other threads, where that can be done."""
        for term in self.terms:
            term.raw.cancel()

    def clear(self) -> None:
        """Forgets the scores of the samples seen so far."""
        self._memo.clear()
        self._rows.clear()

    def close(self) -> None:
        """Ends external programs and workers; the next call would start them again."""
        for term in self.terms:
            term.close()

    def _raw(self, samples: Samples, prompts: Prompts = None, parts: Evaluator | None = None) -> NDArray[np.float64]:
        """Raw scores `(T, n)`."""
        if prompts is not None and len(prompts) != len(samples):
            raise GuidedError(f"there are {len(prompts)} prompts for {len(samples)} samples; give one for each")
        prompts = prompts if self.prompted else None
        if not isinstance(samples, Views):
            return self._of_samples(samples, prompts, None)
        with on_device(samples.rows.device):
            if not takes_rows(self.takes, samples.codec, samples.preview):
                return self._of_samples(samples["samples"], prompts, samples)
            each = prompts if prompts is None or isinstance(prompts, EachPrompt) else None
            if prompts is not None and each is None:
                each = EachPrompt.of(prompts, samples.rows.device)
            return self._rows(samples, each, parts or Evaluator())

    def _of_samples(self, samples: Samples, prompts: Prompts, views: Views | None) -> NDArray[np.float64]:
        """Raw scores `(T, n)`. Text is its own key, with its prompt where that matters; any other sample is nobody's
        duplicate. Arrays stay arrays.
        """
        prompts = None if prompts is None else list(prompts)
        if isinstance(samples, np.ndarray) and samples.ndim == 1 and samples.dtype.kind in "UO":
            samples = samples.tolist()  # texts, or objects
        if isinstance(samples, torch.Tensor | np.ndarray):
            self._calls += len(samples)
            raw = self._by_term(samples, prompts, views)
            return np.array(raw, dtype=np.float64).reshape(len(self.terms), len(samples))
        samples = list(samples)
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
            self._calls += len(fresh)
            new, theirs = ([it[i] for i in fresh.values()] if it is not None else None for it in (samples, prompts))
            if self.takes == {"samples"}:  # else rows would be selected for none, and the host would wait for it
                views = None
            by_term = self._by_term(new, theirs, views and _selected(views, [*fresh.values()]))
            known.update(zip(fresh, zip(*by_term, strict=True), strict=True))
            self._remember({key: known[key] for key in fresh if not isinstance(key, int)})
        table = np.array([known[key] for key in keys], dtype=np.float64).reshape(len(keys), len(self.terms))
        return np.ascontiguousarray(table.T)

    def _by_term(self, samples: Samples, prompts: Prompts, views: Views | None) -> list[list[float]]:
        """The raw scores of each term, which is given the view that it takes where there is one."""
        table, known = [], np.ones(len(samples), dtype=bool)
        for term in self.terms:
            takes = term.source.takes
            if views is not None and takes != "samples" and views.gives(takes):
                scores, found = term.raw(views[takes], prompts, lambda: samples), [False] * len(samples)
            else:
                scores, found = term.scored(samples, prompts)
            table.append(scores)
            known &= found
        self.cached += int(known.sum())
        return table

    def _remember(self, scores: dict[Hashable, tuple[float, ...]]) -> None:
        self._memo.update(scores)
        while len(self._memo) > MEMO_SIZE:
            self._memo.popitem(last=False)

    def _transformed(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        pairs = zip(self.terms, raw, strict=True)
        return np.stack([term.transform(scores) if term.transform else scores for term, scores in pairs])

    def _aggregated(self, scores: NDArray[np.float64], samples: Samples) -> NDArray[np.float64]:
        self._check_product(scores, samples)
        return scalarise(scores, self._weights[:, None], self._constraints, self.aggregate)

    def _check_product(self, scores: NDArray[np.float64], samples: Samples | None) -> None:
        """Names the reward that a product cannot take."""
        if self.aggregate != "product":
            return
        negative = (scores < 0) & ~np.isneginf(scores)
        for place in np.argwhere(negative[~self._constraints])[:1]:
            whose = "" if samples is None else f" for sample {short(_sample(samples, place[1]))}"
            i, score = place[0], scores[~self._constraints][tuple(place)]
            raise RewardError(
                f"a weighted product takes scores >= 0, but reward {self.objectives[i].name!r} gave {score:g}{whose}: "
                "give it a transform (linear=, sigmoid= or window=)"
            )


def resolve_reward(
    spec: RewardSpec,
    *,
    aggregate: str = "mean",
    on_error: str = "stop",
    time_limit: float | None = None,
    workers: int = 0,
    cache: str | Path | None = None,
    trust_rewards: bool = False,
) -> Objective:
    """The objective that a reward's specification stands for.

    Args:
        spec: a name; "name?key=value&key=value" (weight=, linear=, sigmoid=, window=, and the function's parameters);
            a function; "package.module:function"; "path/file.py:function"; "exec:program arguments" or the path of an
            executable file; a mapping of these to weights; a list of these; an `Objective.spec`; or an Objective, which
            is returned as it is.
        aggregate: "mean", "product" or "tchebycheff", all weighted.
        on_error: "stop" raises RewardError at the first sample that fails, "worst" counts it as -inf.
        time_limit: seconds that one call of a reward may take; None for no limit.
        workers: how many workers score a batch side by side; 0 to score it here, but for a reward that takes one
            sample at a time if there is a time limit, which then has a worker of its own.
        cache: a folder in which scores are kept, for other runs too; None for no cache.
        trust_rewards: whether scores are kept also of a reward that cannot be told from another.

    Raises:
        GuidedError: nothing is known by that name, a parameter is wrong, a weight is not > 0, …
    """
    if isinstance(spec, Objective):
        if workers or cache is not None:
            raise GuidedError("the reward is an Objective already; give workers and cache to resolve_reward")
        return spec
    if isinstance(spec, Mapping) and "terms" in spec:
        terms, aggregate = from_spec(spec), spec.get("aggregate", "mean")
    else:
        terms = terms_of(spec)
    for name, value, accepted in (("aggregate", aggregate, Aggregate), ("on_error", on_error, OnError)):
        if value not in get_args(accepted):
            raise GuidedError(f"{name} is {' or '.join(map(repr, get_args(accepted)))}, given {value!r}")
    policy: dict[str, Any] = {"on_error": on_error, "time_limit": _seconds(time_limit), "pool": _pool(workers)}
    policy["cache"] = None if cache is None else Cache(cache)
    names = unique_names([term.source.label for term in terms])
    terms = [replace(term, name=name, **policy) for name, term in zip(names, terms, strict=True)]
    if time_limit is not None and not workers:  # what takes seconds a sample cannot be stopped in this process
        stopped = [term.source.single and term.source.workers == "processes" for term in terms]
        terms = [replace(term, pool=_pool(1)) if own else term for own, term in zip(stopped, terms, strict=True)]
    made = Objective(terms, aggregate)
    if cache is not None and not trust_rewards and made.opaque:
        raise GuidedError(
            f"{made.opaque}, so its scores cannot be kept; leave out the cache, give a function in a file, or say that "
            "it is always the same with trust_rewards=True (--trust-rewards)"
        )
    return made


def _pool(workers: Any) -> Pool | None:
    n = check_number("workers", workers, int, least=0, most=MOST_WORKERS)
    return Pool(n) if n else None


def _seconds(limit: Any) -> float | None:
    """A time limit as a number that threads can wait for."""
    if limit is None:
        return None
    try:
        seconds = float(limit)
    except (TypeError, ValueError):
        seconds = 0.0
    if not seconds > 0:
        raise GuidedError(f"time_limit is a number of seconds > 0, given {limit!r}")
    return min(seconds, TIMEOUT_MAX)


def _sample(samples: Samples, i: int) -> Any:
    """The decoded sample of that number."""
    return (samples["samples"] if isinstance(samples, Views) else samples)[i]


def _selected(views: Views, rows: list[int]) -> Views:
    """Views of some of the rows, or of all."""
    if rows == list(range(len(views))):
        return views
    return views.select(torch.tensor(rows, device="cpu").to(views.rows.device))


def _key(sample: object, i: int, prompts: Prompts) -> Hashable:
    """What equal samples share: text, with its prompt where there is one; its place for any other sample."""
    if not isinstance(sample, str):
        return i
    return sample if prompts is None else (sample, prompts[i])
