"""`guided.sample` and `guided.stream`: names and paths are resolved to objects here; the engine takes only objects."""

__all__ = ["idle_value", "resolve", "sample", "stream", "with_negative"]

import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields, replace
from os.path import expanduser
from pathlib import Path
from typing import Any

import torch

from guided.core.batching import Evaluator
from guided.core.diffusion import Diffusion
from guided.core.monitor import Progress, check_progress
from guided.errors import GuidedError
from guided.loading import check_name, check_options, load, split_options, with_guider
from guided.runs.adaptive import Adaptive
from guided.runs.config import POSITIONAL, ModelOptions, RunConfig
from guided.runs.devices import devices_of
from guided.runs.editing import Start
from guided.runs.engine import DECODED, Batch, Run, Stats
from guided.runs.executors import executor_for
from guided.runs.job import Job
from guided.runs.opened import batches_in, open_run
from guided.runs.options import spelled
from guided.runs.paths import check_folder, full
from guided.runs.pipe_args import opened
from guided.runs.preferences import ADAPTIVE, Preferences
from guided.runs.prompts import Prompts
from guided.runs.record import draw_alone, finish, folder_of, record
from guided.runs.signatures import described, signature
from guided.samplers import Auto, BestOfN, Sampler, Unguided, resolve_sampler, sampler_to_dict
from guided.scoring.objective import Objective, resolve_reward
from guided.storage import refuse_foreign
from guided.values.learned import LearnedValue
from guided.values.load import load_value
from guided.values.posterior_mean import PosteriorMean
from guided.values.protocol import Value
from guided.values.rollout import Rollout, read_rollout


def sample(*arguments: Any, **options: Any) -> Run:
    """Draws `n` samples of a pretrained model, guided by a reward.

    Sample `i` depends on the seed and on `i`, not on `n`, up to the network's rounding, which may depend on the number
    of rows in a batch. With `out` the run is written to a folder as its batches finish; the same call, or the same
    command, resumes it.

    {options}

    Returns:
        The finished run.

    Raises:
        GuidedError: An argument is wrong; the message says what is accepted.
    """
    given = _bound(arguments, options)
    progress = check_progress(given.pop("progress"))
    job = resolve(_config(given))
    batches = list(_drawn(job, progress))
    stats = sum((batch.stats for batch in batches), Stats())
    if job.out is not None and given["only"] is None:
        stats = open_run(job.out).stats
    return Run(
        samples=[sample for batch in batches for sample in batch.samples],
        rewards=torch.tensor([r for batch in batches for r in batch.rewards], dtype=torch.float64, device="cpu"),
        stats=stats,
        columns={name: [v for batch in batches for v in batch.columns[name]] for name in batches[0].columns},
        path=[value for batch in batches for value in batch.path],
        first_call=[call for batch in batches for call in batch.first_call],
    )


def stream(*arguments: Any, **options: Any) -> Iterator[Batch]:
    """Draws samples and yields them batch by batch, as they finish.

    With `out`, the batches that the folder already holds come first.

    {options}

    Returns:
        The batches.

    Raises:
        GuidedError: An argument is wrong; the message says what is accepted.
    """
    given = _bound(arguments, options)
    progress = check_progress(given.pop("progress"))
    job = resolve(_config(given))
    return _drawn(job, progress)


def _bound(arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, with defaults."""
    bound = _SIGNATURE.bind(*arguments, **options)
    bound.apply_defaults()
    return dict(bound.arguments)


def _config(given: dict[str, Any]) -> RunConfig:
    """The description of a run of `sample` or `stream`."""
    config = RunConfig.of(**given)
    for name in ("report", "poses"):
        if getattr(config.run, name) and config.run.out is None:
            raise GuidedError(f"{name} needs out, the folder that it is written to")
    return config


_SIGNATURE = signature(RunConfig, POSITIONAL)
_function: Any
for _function in (sample, stream):
    _function.__signature__ = _SIGNATURE
    _function.__doc__ = (_function.__doc__ or "").replace("    {options}", described(RunConfig))


def _drawn(job: Job, progress: Callable[[Progress], None] | None) -> Iterator[Batch]:
    with closing(job):
        if job.out is None:
            yield from job.draw(job.requests, progress)
        elif job.config.run.only is not None:
            yield from draw_alone(job, progress)
        else:
            with folder_of(job) as folder:
                before = folder.done
                if folder.moved:
                    warnings.warn(folder.moved, stacklevel=3)
                yield from batches_in(folder.path)
                yield from record(job, folder, progress)
                finish(job, folder, folder.done > before, progress, warnings.warn)


def resolve(config: RunConfig, command: str = "") -> Job:
    """Loads what a description names; cheap checks come first.

    Raises:
        GuidedError: A name or path does not exist, or options do not fit together.
    """
    out = config.run.out
    if out is not None:
        check_folder(out, spelled("out"))
        out = full(out)
        refuse_foreign(out, spelled("out"))
    sampler = _sampler(config)
    if idle := idle_value(config):
        warnings.warn(idle, stacklevel=2)  # the command line refuses it
    start = Start.read(config.editing.image, config.editing.mask, config.editing.strength)
    objective = _objective(config)
    if config.search.value is None:
        _check_gradient(sampler, objective)
    preferences = _preferences(config, objective)
    executor = executor_for(config)
    if executor is not None:
        executor.open(config, objective)
    model = _model(_placed(config))
    search, asked = config.search, config.prompting
    model = model if search.steps is None else model.with_steps(search.steps)
    model = _started(with_guider(with_negative(model, asked.negative), asked.guider), start)
    wanted = Prompts.of(model, config.run.n, asked.prompt, asked.negative_prompt, asked.guidance, asked.rescale)
    _check_branching(model, sampler)
    named = _named(search.value)
    job = Job(config, model, sampler, objective, wanted, named=named, start=start, out=out, command=command)
    job = _with_value(replace(job, executor=executor, preferences=preferences))
    if getattr(sampler, "differentiates", False):
        _check_slope(job)
    if hasattr(sampler, "check"):
        sampler.check(job.model)
    return job


def _check_slope(job: Job) -> None:
    """Refuses a model or a value without gradients, before anything is drawn."""
    if job.preferences is not None:
        raise GuidedError(f"{spelled('preferences')} weigh a reward for each request, which has no gradient here")
    check = getattr(job.value, "check_slope", None)
    if check is None:
        raise GuidedError(f"{spelled('value')} is an object of {type(job.value).__name__}, which has no gradient")
    check(job.model)


def _check_branching(model: Diffusion, sampler: Sampler) -> None:
    """Raises GuidedError if the guider keeps something of each particle from step to step, and the sampler branches."""
    guider = model.prompting.guider
    if guider is not None and guider.remembers and not isinstance(sampler, Unguided | BestOfN | Auto):
        raise GuidedError(guider.remembers)


def _named(value: Any) -> Any:
    """The value of an option: a rollout, or one from its folder."""
    found = _rollout(value)
    return load_value(expanduser(found)) if isinstance(found, str | Path) else found


def _rollout(value: Any) -> Any:
    """The rollout that a text names; anything else as it is."""
    return (read_rollout(str(value)) or value) if isinstance(value, str | Path) else value


def _sampler(config: RunConfig) -> Sampler:
    """The sampler; checks that there is a reward if it needs one, and that the model exists."""
    given = config.search.sampler
    try:
        sampler = resolve_sampler(given)
    except TypeError as error:  # wrong types of hyperparameters
        raise GuidedError(f"sampler {given!r}: {error}") from error
    if config.rewards.reward is None and not isinstance(sampler, Unguided):
        if isinstance(config.source.model, str | Path):
            check_name(config.source.model)
        name = given.get("name") if isinstance(given, dict) else given
        raise GuidedError(f"sampler {name!r} needs a {spelled('reward')}; `guided rewards` lists them")
    return sampler


def idle_value(config: RunConfig) -> str:
    """A message if the run has a value that its sampler asks nothing: samples would be those without it; otherwise "".

    A learned value is the reward at the end, so it has an effect before the end or none. Whether a sampler asks before
    the end is its attribute `guides`, True if it has none.
    """
    value, sampler = config.search.value, _sampler(config)
    learned = isinstance(value, str | Path | LearnedValue)
    if value is None or (not isinstance(sampler, Unguided) and (getattr(sampler, "guides", True) or not learned)):
        return ""
    fields = ", ".join(f"{name}={entry}" for name, entry in sampler_to_dict(sampler).items() if name != "name")
    return (
        f"{spelled('value')} has no effect: {type(sampler).__name__}({fields}) asks no value before the end of a run; "
        "leave it out, or take a sampler that does, as svdd with M=10"
    )


def _objective(config: RunConfig) -> Objective | None:
    given = config.rewards
    found = None if given.reward is None else resolve_reward(_homes(given.reward), **given.how)
    if config.run.poses and (found is None or not any(term.source.pose for term in found.terms)):
        raise GuidedError(f"{spelled('poses')} needs a reward that docks, as docking?receptor=parp1")
    return found


def _check_gradient(sampler: Sampler, objective: Objective | None) -> None:
    """Refuses a reward without a gradient for a sampler that follows one, with a true attribute `differentiates`."""
    if getattr(sampler, "differentiates", False) and objective is not None and objective.obstacle:
        name = sampler_to_dict(sampler)["name"]
        raise GuidedError(f"sampler {name!r} follows the reward's gradient: {objective.obstacle}")


def _preferences(config: RunConfig, objective: Objective | None) -> Preferences | None:
    """The weights of each request, if they differ."""
    given, name = config.rewards.preferences, spelled("preferences")
    if given is None:
        return None
    terms = [] if objective is None else objective.objectives
    if len(terms) < 2:
        raise GuidedError(f"{name} weighs several rewards, and the run has {len(terms)} that are no constraints")
    if not (config.search.value is None or isinstance(_rollout(config.search.value), Rollout)):
        raise GuidedError(
            f"{name} and {spelled('value')} do not go together: a value is of one reward, unless it is a rollout"
        )
    if isinstance(given, str) and given == ADAPTIVE and objective is not None:
        _check_adaptive(config)
        limits = [term.name for term in objective.terms if term not in terms]
        own = [term.weight for term in terms]
        return Preferences(Adaptive([term.name for term in terms], limits, own, objective.aggregate))
    return Preferences.given(given, name, len(terms), config.run.n, config.run.seed)


def _check_adaptive(config: RunConfig) -> None:
    """Refuses runs whose batches cannot learn from those before them."""
    said, run = f"{spelled('preferences')} {ADAPTIVE}", config.run
    if run.n <= run.batch_size:
        raise GuidedError(
            f"{said} learns from the batches before: with {run.n} samples take a {spelled('batch_size')} below "
            f"{run.n}, as {max(1, run.n // 8)}"
        )
    if run.only is not None:
        raise GuidedError(f"{said} depends on the samples before; for a single one give its weights as rows")
    if config.places.devices is not None or config.places.cluster is not None:
        raise GuidedError(f"{said} needs each batch before the next begins; draw in one process")


def _homes(reward: Any) -> Any:
    """The reward with `~` expanded in paths."""
    if isinstance(reward, list | tuple):
        return [_homes(part) for part in reward]
    return expanduser(reward) if isinstance(reward, str) else reward


def _placed(config: RunConfig) -> ModelOptions:
    """The model on the first of the devices: this process has it too."""
    given, source = config.places, config.source
    if given.devices is None or given.cluster is not None or not isinstance(source.model, str | Path):
        return source
    return replace(source, device=devices_of(given.devices, source.device)[0])


def _model(source: ModelOptions) -> Diffusion:
    """The model; one in memory stays on its device."""
    given: dict[str, Any] = {} if source.pipe_args is None else {"pipe_args": opened(source.pipe_args)}
    if isinstance(source.model, str | Path):
        return load(source.model, device=source.device, dtype=source.dtype, **given)
    passed = ("model",) if isinstance(source.model, Diffusion) else ("model", "pipe_args")
    for field in fields(source):
        value = getattr(source, field.name)
        if field.name not in passed and value != field.default:
            raise GuidedError(f"{field.name} is {value!r}, but the model is already loaded; load it with this option")
    return source.model if isinstance(source.model, Diffusion) else load(source.model, **given)


def _with_value(job: Job) -> Job:
    """The run with its sampler, where that is to be chosen, and the value that it selects by; prompts are checked."""
    whole, value = job.prompts.checked(job.model), job.named
    if isinstance(job.sampler, Auto):
        choice = job.sampler.choose(whole, value is not None, job.config.budgets.budget)
        job = replace(job, sampler=choice.sampler, chosen=choice.reason)
        _check_branching(job.model, job.sampler)
    if job.objective is None:
        return replace(job, value=value)
    job.objective.check(job.model.modality)
    if value is None:
        decoded = Evaluator(DECODED.get(job.model.modality))
        return replace(job, value=PosteriorMean(job.objective, job.config.search.draws, decoded))
    if isinstance(value, Rollout):
        value.check(job.model)
        decoded = Evaluator(DECODED.get(job.model.modality))
        bound = replace(value, reward=job.objective, draws=job.config.search.draws, evaluator=decoded)
        return replace(job, value=bound)
    if job.config.budgets.budget and not isinstance(value, LearnedValue):
        raise GuidedError(
            f"{spelled('value')} is an object of {type(value).__name__}, which counts no calls; with a budget it must "
            "be a folder from `guided fit-value`, or the look-ahead's own"
        )
    plain = job.prompts.plain and job.model.requests.editing is None and job.model.prompting.guider is None
    return replace(job, value=_learned(value, whole, job.objective, job.sampler, plain))


def _learned(value: Value, model: Diffusion, objective: Objective, sampler: Sampler, plain: bool) -> Value:
    """A learned value bound to this run; any other value unchanged."""
    if not isinstance(value, LearnedValue):
        return value
    if not plain:
        raise GuidedError(
            "a learned value was fitted to runs from noise, without negative prompts, guidance rescale and guiders; "
            "leave out image, negative_prompt, rescale and guider, or the value"
        )
    return value.bind(model, objective, getattr(sampler, "alpha", ()))


def with_negative(model: Diffusion, negative: str | Path | None) -> Diffusion:
    """The model with a negative checkpoint, if one is given; options may follow its name.

    Raises:
        GuidedError: There is no such checkpoint or option, or the checkpoint has another base.
    """
    if negative is None:
        return model
    from guided.negatives.attach import attach

    place, options = split_options(negative)
    check_options(attach, options, f"negative checkpoint {place!r}")
    return attach(model, expanduser(place), **options)


def _started(model: Diffusion, start: Start) -> Diffusion:
    """The model, starting from an image if there is one."""
    if start.image is None:
        return model
    edited = model.edited(start.image, start.strength, start.mask)
    edited.requests.first_step(edited.steps)  # raises if no step is left
    return edited
