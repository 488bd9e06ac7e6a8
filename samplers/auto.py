"""The sampler that has given most reward for its compute in a case like the one at hand, from a table.

The table is `CASES`; what it stands on is in docs/frontier.md, which ends with it. A run makes its choice once, when it
is put together, and records it.
"""

__all__ = ["CASES", "Asked", "Auto", "Case", "Choice"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from guided.core.budget import Budget
from guided.core.diffusion import Diffusion
from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import check_number
from guided.samplers.base import Sampler, register_sampler, sampler_from_dict
from guided.values.learned import LearnedValue
from guided.values.protocol import Value
from guided.values.rollout import Rollout

FEW, MANY = 20, 100_000  # calls of best-of-N; rounds that a budget ends


@dataclass(frozen=True)
class Asked:
    """What a choice depends on.

    Args:
        alpha: The temperature; 0 where the best is wanted, and not the tilted distribution.
        valued: Whether the user has given a learned value or a rollout.
        noisy: Whether a step of the chain has noise.
        tokens: Whether the model is a masked one.
        short: Whether a sample is a molecule, of few tokens.
        steps: Those of the chain, `K`.
        apart: Whether particles cannot branch, as the guidance keeps something of each from step to step.
        chain: The network rows of a chain.
        budget: That of a request.
    """

    alpha: float
    valued: bool
    noisy: bool
    tokens: bool
    short: bool
    apart: bool
    steps: int
    chain: int
    budget: Budget

    @classmethod
    def of(cls, model: Diffusion, alpha: float, valued: bool, budget: Budget | None) -> "Asked":
        """What a run of a model asks for."""
        first, process = model.requests.first_step(model.steps), model.process
        steps, tokens = model.steps - first, process.tokens is not None
        rows = min(steps, process.output[0]) if tokens and not model.timed else steps
        noisy = any(map(process.stochastic, range(first, model.steps)))
        short = tokens and model.modality == "molecules"
        guider = model.prompting.guider
        apart = guider is not None and bool(guider.remembers)
        return cls(alpha, valued, noisy, tokens, short, apart, steps, max(1, rows * model.cost), budget or Budget())

    @property
    def calls(self) -> float:
        """The reward calls that may be spent."""
        return math.inf if self.budget.calls is None else self.budget.calls

    @property
    def chains(self) -> float:
        """The chains whose network rows may be spent."""
        return math.inf if self.budget.rows is None else self.budget.rows / self.chain


@dataclass(frozen=True)
class Case:
    """A line of the table; the first that fits is taken.

    Args:
        when: The case, in words.
        name: The sampler.
        why: What was measured.
        fits: Whether something asked for is of the case.
        fields: The sampler's hyperparameters.
    """

    when: str
    name: str
    why: str
    fits: Callable[[Asked], bool]
    fields: Callable[[Asked], Mapping[str, Any]]


@dataclass(frozen=True)
class Choice:
    """A sampler and why it was chosen."""

    sampler: Sampler
    reason: str


def between(low: int, number: float, high: int) -> int:
    """The number, rounded down, within bounds."""
    return int(max(low, min(number, high)))


def smc(asked: Asked) -> Mapping[str, Any]:
    """As many particles as rows and calls pay for, 16 if they are free, with look-aheads as often as calls allow."""
    N = between(2, min(asked.chains if asked.chains < math.inf else 16, asked.calls / 4), 64)
    every = 1 if asked.calls == math.inf else math.ceil(asked.steps * N / max(1, asked.calls - N))
    return {"N": N, "alpha": asked.alpha, "every": max(1, every)}


def svdd(asked: Asked) -> Mapping[str, Any]:
    """As many candidates as rows and calls pay for; 10 if they are free."""
    most = min(asked.chains, asked.calls / asked.steps)
    return {"M": 10 if most == math.inf else between(2, most, 64)}


def elite(asked: Asked) -> Mapping[str, Any]:
    """A round of at most an eighth of the calls and a quarter of the rows, until they are spent."""
    N = between(4, min(asked.calls / 8, asked.chains / 4), 32)
    if not asked.budget:
        return {"N": 16, "rounds": 8}
    free = asked.chains == asked.calls == math.inf  # only seconds are bounded
    return {"N": 16 if free else N, "rounds": MANY, "size": 100 if asked.calls >= 2000 else 32}


def root(asked: Asked) -> Mapping[str, Any]:
    """A beam as wide as each particle has candidates."""
    return {name: between(2, asked.chains**0.5, 16) for name in ("N", "M")}


CASES = (
    Case(
        "`alpha` above 0: the tilted distribution",
        "smc",
        "its law is exact as N grows; the searches have none",
        lambda asked: asked.alpha > 0,
        smc,
    ),
    Case(
        "guidance that keeps something of each chain from step to step",
        "best-of-n",
        "such chains cannot branch",
        lambda asked: asked.apart,
        lambda asked: {"N": between(1, min(asked.calls, asked.chains, 20), 20)},
    ),
    Case(
        "a learned value or a rollout is given",
        "svdd",
        "it is asked at every step, by which searches of finished samples do not go",
        lambda asked: asked.valued and asked.noisy,
        svdd,
    ),
    Case(
        "the steps have no noise",
        "elite",
        "all is decided by the starting noise, in which it searches",
        lambda asked: not asked.noisy,
        elite,
    ),
    Case(
        "fewer than 20 reward calls",
        "best-of-n",
        "molecules: .927 with 16 calls, SVDD .913 with 18; DNA: look-aheads need several calls a step",
        lambda asked: asked.calls < FEW,
        lambda asked: {"N": int(asked.calls)},
    ),
    Case(
        "molecules of tokens, network rows of fewer than 3 chains",
        "svdd",
        "QED .889 with the rows of 2 chains; best of 4 has .887 with those of 4",
        lambda asked: asked.short and asked.chains < 3,
        svdd,
    ),
    Case(
        "molecules of tokens, fewer than 14 chains",
        "block-best-of-n",
        "QED .934 with 140 rows; best-of-N .927 with 169",
        lambda asked: asked.short and asked.chains < 14,
        lambda asked: {"N": between(2, asked.chains, 64)},
    ),
    Case(
        "molecules of tokens, fewer than 28 chains",
        "beam",
        "QED .941 with 261 rows; block-best-of-N .942 with 463",
        lambda asked: asked.short and asked.chains < 28,
        root,
    ),
    Case(
        "molecules of tokens otherwise",
        "elite",
        "the largest area of QED by calls, rows and seconds",
        lambda asked: asked.short,
        elite,
    ),
    Case(
        "other tokens, fewer than 4 reward calls a step",
        "elite",
        "HepG2 with 32 steps: 2.47 with 32 calls, best-of-N 1.92 with 16, SVDD 3.57 with 128",
        lambda asked: asked.tokens and asked.calls < 4 * asked.steps,
        elite,
    ),
    Case(
        "other models, fewer than 4 reward calls a step",
        "best-of-n",
        "too few look-aheads for SVDD",
        lambda asked: asked.calls < 4 * asked.steps,
        lambda asked: {"N": int(asked.calls)},
    ),
    Case(
        "all else: sequences, images",
        "svdd",
        "HepG2 with 500 rows: 6.01, beam 6.05, block-best-of-N 2.91, SMC 2.71; JPEG of 1,000 rows: 1.26 kB, "
        "best-of-N 2.03",
        lambda asked: True,
        svdd,
    ),
)


@register_sampler("auto")
@dataclass(frozen=True)
class Auto:
    """Chooses a sampler by the model, the budget and the temperature.

    Args:
        alpha: The temperature, in units of the reward; 0 for the best samples, above 0 for the tilted distribution.

    Raises:
        GuidedError: The temperature is below 0.
    """

    alpha: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_number("alpha", self.alpha, float, least=0))

    def __call__(self, model: Diffusion, value: Value, streams: Streams) -> Particles:
        """Draws one sample for each request with the sampler of the case, with shape `(B, 1, *event)`."""
        spending = model.requests.spending
        valued = isinstance(getattr(value, "value", value), LearnedValue | Rollout)
        budget = None if spending is None else spending.budget
        return self.choose(model, valued, budget).sampler(model, value, streams)

    def choose(self, model: Diffusion, valued: bool, budget: Budget | None) -> Choice:
        """The sampler for a run, and the reason.

        Args:
            model: The model, with its steps and start.
            valued: Whether the user has given a learned value or a rollout.
            budget: That of a request.
        """
        asked = Asked.of(model, self.alpha, valued, budget)
        case = next(case for case in CASES if case.fits(asked))
        return Choice(sampler_from_dict({"name": case.name, **case.fields(asked)}), f"{case.when}: {case.why}")
