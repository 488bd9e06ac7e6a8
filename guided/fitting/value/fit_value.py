"""The function `guided.fit_value`."""

__all__ = ["fit", "fit_value"]

from collections.abc import Callable
from pathlib import Path
from typing import Any

from guided.core.diffusion import Diffusion
from guided.core.monitor import Progress, check_progress
from guided.errors import GuidedError, kind_of
from guided.fitting.value.config import POSITIONAL, FitConfig
from guided.fitting.value.fit import Settings
from guided.fitting.value.job import ValueJob
from guided.fitting.value.network import plan_network
from guided.fitting.value.source import Source
from guided.fitting.value.states import HELD_OUT
from guided.loading import load
from guided.runs.paths import full
from guided.runs.signatures import described, signature
from guided.scoring.objective import Objective, resolve_reward
from guided.values.learned import LearnedValue

CANDIDATES = 8  # candidates of the next state, for bootstrapped values


def fit_value(*arguments: Any, **options: Any) -> LearnedValue:
    """Fits a value to trajectories of the pretrained model and saves it; its `config` says how good it is.

    The value is a function of time, so it can be used with another number of steps. It is valid for its prompts.

    {options}

    Returns:
        The finished value.

    Raises:
        GuidedError: An argument is wrong, or the folder holds another value; the message says what is accepted.
    """
    bound = _SIGNATURE.bind(*arguments, **options)
    bound.apply_defaults()
    given = dict(bound.arguments)
    progress = check_progress(given.pop("progress"))
    return fit(FitConfig.of(**given), progress)


_SIGNATURE = signature(FitConfig, POSITIONAL)
fit_value.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
fit_value.__doc__ = (fit_value.__doc__ or "").replace("    {options}", described(FitConfig))


def fit(config: FitConfig, progress: Callable[[Progress], None] | None = None) -> LearnedValue:
    """Does the fit of a description, or resumes it.

    Raises:
        GuidedError: A name or path does not exist, or the folder holds another value.
    """
    job = _job(config, progress or (lambda state: None))
    try:
        job.run()
        return job.value
    finally:
        if job.objective is not config.reward:
            job.objective.close()


def _job(config: FitConfig, progress: Callable[[Progress], None]) -> ValueJob:
    """Loads the objects of a fit."""
    out = full(config.out)
    rollouts = out / "rollouts" if config.rollouts is None else full(config.rollouts)
    model = _model(config)
    objective = config.reward if isinstance(config.reward, Objective) else resolve_reward(config.reward, **config.how)
    source = Source.of(
        model if config.steps is None else model.with_steps(config.steps), config.prompt, config.guidance
    )
    if config.n < HELD_OUT * len(source.prompts):
        needs = f"a value of {len(source.prompts)} prompts needs {HELD_OUT} rollouts of each"
        raise GuidedError(f"n is {config.n}; {needs}")
    plan, factory = plan_network(config.network, source)
    return ValueJob(
        out=out,
        progress=progress,
        source=source,
        objective=objective,
        trust_rewards=config.trust_rewards,
        settings=_settings(config),
        n=config.n,
        rolling=_rolling(config, source),
        network=plan,
        factory=factory,
        rollouts=rollouts,
        n_check=config.n_check,
    )


def _model(config: FitConfig) -> Diffusion:
    model = config.model
    if isinstance(model, str | Path):
        return load(model, device=config.device, dtype=config.dtype)
    if not isinstance(model, Diffusion):
        raise GuidedError(f"model is {kind_of(model)}; it must be a Diffusion, or the name or folder of one")
    return model


def _settings(config: FitConfig) -> Settings:
    alpha = None if config.target == "mean" else config.alpha
    rates = (config.updates, config.batch, config.lr, config.weight_decay)
    return Settings(config.target, alpha, *rates, config.seed, config.objective)


def _rolling(config: FitConfig, source: Source) -> dict[str, int]:
    """The arguments of `roll`."""
    return {
        "seed": config.seed,
        "states": min(config.states, source.model.steps),
        "candidates": config.candidates or (CANDIDATES if config.target == "bootstrap" else 1),
        "batch_size": config.batch_size,
    }
