"""The call `guided.fit_value`."""

__all__ = ["fit_value"]

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from guided.core.diffusion import Diffusion
from guided.core.random import Streams
from guided.errors import GuidedError, check_number, nearest
from guided.fitting.job import FittingProgress
from guided.fitting.value.fit import Settings
from guided.fitting.value.job import ValueJob
from guided.fitting.value.network import plan_network
from guided.fitting.value.source import Source
from guided.fitting.value.states import HELD_OUT
from guided.loading import load
from guided.scoring.objective import resolve_reward
from guided.values.learned import TARGETS, LearnedValue
from guided.values.load import Factory

CANDIDATES = 8  # of the next state, where a value is bootstrapped


def fit_value(
    model: Diffusion | str | Path,
    reward: Any,
    target: str = "soft",
    alpha: float = 0.1,
    n: int = 2000,
    out: str | Path = "runs/value",
    *,
    prompt: str | Sequence[str] | None = None,
    guidance: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    states: int = 16,
    candidates: int | None = None,
    batch_size: int = 64,
    rollouts: str | Path | None = None,
    network: str | Mapping[str, Any] | Factory | None = None,
    updates: int = 2000,
    batch: int = 128,
    lr: float = 2e-3,
    weight_decay: float = 0.01,
    n_check: int = 32,
    aggregate: str = "mean",
    on_error: str = "stop",
    time_limit: float | None = None,
    progress: Callable[[FittingProgress], None] | None = None,
) -> LearnedValue:
    """Fits a value to trajectories of the pretrained model and saves it; its `config` says how good it is.

    Args:
        model: A model, or the name or folder of one.
        reward: What :func:`guided.scoring.objective.resolve_reward` takes. A sample that fails counts as
            the worst that did not.
        target: "mean" is E[r | x_k], "soft" is alpha log E[exp(r / alpha) | x_k] by Monte Carlo, "bootstrap" is the
            same by soft Bellman backups.
        alpha: The temperature of a soft value, in units of the reward, above 0; the mean has none.
        n: The number of trajectories, at least 10.
        out: The folder of the value; a fit that was stopped there goes on.
        prompt: For a conditional model: the prompt, or several, of which trajectory i has the i-th, again and again.
            The value holds for these prompts.
        guidance: The weight of classifier-free guidance; None for none.
        steps: The number of reverse steps `K` of the trajectories; None for the model's own. The value is one of the
            time, so that it can be used with another number.
        seed: The seed of trajectories, fit and check.
        states: The number of states that are kept of each trajectory, at random steps.
        candidates: The number of candidates of the next state that are kept with each state; None for what the target
            needs, 8 for "bootstrap".
        batch_size: The number of trajectories that are drawn together.
        rollouts: A folder of rollouts that several values share; None for one in `out`.
        network: "sequence", "image" or "vector", a mapping with this `kind` and `width` and so on, or a function that
            makes one (:data:`guided.values.load.Factory`); None for what suits the model.
        updates: The number of updates of the network.
        batch: The number of states of an update.
        lr: The learning rate.
        weight_decay: The weight decay of AdamW.
        n_check: The number of samples drawn at the end with SVDD (M = 10) and unguided, to report the reward that is
            reached; 0 for none.
        aggregate: How several rewards become one, "mean" or "product".
        on_error: What a failing reward does, "stop" or "worst".
        time_limit: The seconds that a call of the reward may take.
        progress: Called often.

    Raises:
        ValueError: An argument is not what is accepted, or the folder holds another value; the message says what.
    """
    alpha = _checked_alpha(target, alpha)
    least = {"n": HELD_OUT, "states": 1, "batch_size": 1, "updates": 2, "batch": 1, "n_check": 0}
    given = (n, states, batch_size, updates, batch, n_check)
    n, states, batch_size, updates, batch, n_check = (
        check_number(name, number, int, bound) for (name, bound), number in zip(least.items(), given, strict=True)
    )
    lr, weight_decay = check_number("lr", lr, float, 0), check_number("weight_decay", weight_decay, float, 0)
    if candidates is not None:
        candidates = check_number("candidates", candidates, int, least=1)
    _check_bootstrap(target, states, candidates)
    Streams(seed, [])
    model = _loaded(model)
    objective = resolve_reward(reward, aggregate=aggregate, on_error=on_error, time_limit=time_limit)
    source = Source.of(model if steps is None else model.with_steps(steps), prompt, guidance)
    if n < HELD_OUT * len(source.prompts):
        raise GuidedError(f"n is {n}; a value of {len(source.prompts)} prompts needs {HELD_OUT} trajectories of each")
    rolling = {
        "seed": seed,
        "states": min(states, source.model.steps),
        "candidates": candidates or (CANDIDATES if target == "bootstrap" else 1),
        "batch_size": batch_size,
    }
    settings = Settings(target, None if target == "mean" else alpha, updates, batch, lr, weight_decay, seed)
    plan, factory = plan_network(network, source)
    job = ValueJob(
        out=Path(out),
        progress=progress or (lambda state: None),
        source=source,
        objective=objective,
        settings=settings,
        n=n,
        rolling=rolling,
        network=plan,
        factory=factory,
        rollouts=Path(out) / "rollouts" if rollouts is None else Path(rollouts),
        n_check=n_check,
    )
    job.run()
    return job.value


def _checked_alpha(target: str, alpha: Any) -> float:
    if target not in TARGETS:
        raise GuidedError(f"target is {target!r}{nearest(str(target), TARGETS)}; it is one of {', '.join(TARGETS)}")
    if target == "mean":
        return 0.0  # it has none
    try:
        return check_number("alpha", alpha, float, above=0)
    except GuidedError:
        what = 'for a soft value it must be a number above 0 (target "mean" has none)'
        raise GuidedError(f"alpha is {alpha!r}; {what}") from None


def _check_bootstrap(target: str, states: int, candidates: int | None) -> None:
    if target == "bootstrap" and candidates == 1:
        raise GuidedError("candidates is 1; a bootstrapped value needs at least 2 of the next state")
    if target == "bootstrap" and states == 1:
        raise GuidedError("states is 1, the last before the data; a bootstrapped value needs at least 2")


def _loaded(model: Diffusion | str | Path) -> Diffusion:
    if isinstance(model, str | Path):
        model = load(model)
    if not isinstance(model, Diffusion):
        raise GuidedError(f"model is a {type(model).__name__}; it must be a Diffusion, or the name or folder of one")
    return model
