"""The contents of `run.json`: the configuration that a folder is resumed by, and the options that repeat the run."""

__all__ = ["all_versions", "description", "notes", "repeatable", "unnamed"]

import inspect
import platform
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from guided.core.diffusion import Diffusion
from guided.errors import GuidedError
from guided.loading import check_name
from guided.runs.config import PROMPTS
from guided.runs.job import Job
from guided.runs.options import options_of
from guided.runs.pipe_args import described
from guided.runs.versions import versions
from guided.samplers import sampler_to_dict
from guided.scoring.objective import Objective

PACKAGES = ("torch", "numpy", "rdkit", "selfies", "diffusers", "transformers", "accelerate", "peft", "pillow")
Json = Any


def description(job: Job) -> dict[str, Json]:
    """All that the samples depend on, JSON-able.

    The policy for failing rewards is left out, so that a run that was stopped by one may be resumed with another
    policy. Options of later versions are included only if they differ from their default, so that older folders resume.
    """
    found: dict[str, Json] = {}
    values = job.config.values()
    for name, declared in options_of(type(job.config)).items():
        entry, value = declared.option.entry, values[name]
        if entry == "always" or (entry == "given" and _differs(value, declared.default)):
            found[name] = _DECIDES[name](job) if name in _DECIDES else _plain(value)
    return _ordered(found, job)


def _differs(value: Any, default: Any) -> bool:
    """Whether a value differs from its default; arrays and images are compared by identity."""
    plain = value is None or isinstance(value, str | int | float | list | tuple | Path)
    return value != default if plain else value is not default


def _ordered(found: dict[str, Json], job: Job) -> dict[str, Json]:
    """The entries in the order of the former version, with the model's identity and the image to start from."""
    first = ("model", "reward", "sampler", "n", "seed", "steps", "batch_size", "prompt", "guidance")
    rest = {name: value for name, value in found.items() if name not in first}
    head = {name: found[name] for name in first}
    own = {"identity": job.model.identity, "process": job.model.process.distribution}
    return {"model": head.pop("model"), **own, **head, **rest, **job.start.config}


def repeatable(job: Job) -> dict[str, Json]:
    """The options that draw the run again, JSON-able; objects in memory are recorded by their name only.

    Lists of prompts are left out: there may be many, and the configuration has them.
    """
    values = job.config.values()
    return {
        name: _REPEATS[name](job, values[name]) if name in _REPEATS else _plain(values[name])
        for name, declared in options_of(type(job.config)).items()
        if declared.option.recorded and not (name in PROMPTS and isinstance(values[name], list))
    }


def notes(job: Job) -> dict[str, Json]:
    """Entries that are recorded, but that no samples depend on."""
    rewards = job.config.rewards
    return {
        "options": repeatable(job),
        "folder": str(Path.cwd()),
        **({"command": job.command} if job.command else {}),
        **({"reward_name": job.objective.name} if job.objective else {}),
        **({"modality": job.model.modality} if job.model.modality else {}),
        **({"chosen": job.chosen} if job.chosen else {}),
        "on_error": rewards.on_error,
        "time_limit": rewards.time_limit,
        "versions": all_versions(),
        **({"tf32": tf32()} if job.model.device.type == "cuda" else {}),
    }


def tf32() -> dict[str, bool]:
    """Whether torch rounds products of single precision to TF32 on a GPU: switches of the process, which it reads."""
    backends: Any = torch.backends
    try:
        convolutions = bool(backends.cudnn.allow_tf32)
    except RuntimeError:  # somebody has used the newer names
        convolutions = backends.cudnn.conv.fp32_precision == "tf32"
    return {"convolutions": convolutions, "matrices": torch.get_float32_matmul_precision() != "highest"}


def all_versions() -> dict[str, str]:
    """The versions of all packages that the samples may depend on."""
    own = import_module("guided").__version__
    return {"guided": own, "python": platform.python_version(), **versions(PACKAGES)}


def unnamed(objective: Objective | None) -> list[str]:
    """The rewards that cannot be found again by name in another process: closures, lambdas, objects."""
    terms = () if objective is None else objective.terms
    return [term.name for term in terms if not term.source.rebuildable and not _found(str(term.identity["reward"]))]


def _found(place: str) -> bool:
    """Whether `module:function` leads to a function."""
    module, _, path = place.partition(":")
    try:
        return inspect.isroutine(reduce(getattr, path.split("."), sys.modules[module]))
    except (KeyError, AttributeError):
        return False


def _dtype(job: Job) -> str:
    network = job.model.network
    if isinstance(job.config.source.model, str | Path) or network is None:
        return job.config.source.dtype
    weight = next(network.bare.parameters(), None)
    return "float32" if weight is None else str(weight.dtype).removeprefix("torch.")


def _model(job: Job) -> str:
    model = job.config.source.model
    return str(model) if isinstance(model, str | Path) else job.model.name


def _guider(job: Job) -> Json:
    guider = job.model.prompting.guider
    return None if guider is None else dict(guider.description)


def _value(job: Job) -> Json:
    return getattr(job.named, "identity", None) or {"object": type(job.named).__name__}


_DECIDES: Mapping[str, Callable[[Job], Json]] = {
    "model": _model,
    "device": lambda job: job.device,
    "dtype": _dtype,
    "reward": lambda job: job.objective.identity if job.objective else None,
    "sampler": lambda job: sampler_to_dict(job.sampler),
    "steps": lambda job: job.model.steps,
    "value": _value,
    "image": lambda job: job.start.config["image"],
    "mask": lambda job: job.start.config["mask"],
    "strength": lambda job: job.start.config["strength"],
    "pipe_args": lambda job: described(job.config.source.pipe_args),
    "guider": lambda job: _guider(job),
}


def _model_again(job: Job, value: Any) -> Json:
    name = _model(job)
    if isinstance(value, Diffusion):
        try:
            check_name(name)
        except GuidedError:
            return {"object": f"a model called {name!r}"}
    return name if isinstance(value, str | Path | Diffusion) else {"object": f"a {type(value).__name__}"}


def _reward_again(job: Job, value: Any) -> Json:
    if job.objective is None or _is_plain(value):
        return _plain(value)
    spec = job.objective.spec
    return {"object": f"the reward {job.objective.name!r}"} if spec is None else spec


def _file_again(job: Job, value: Any) -> Json:
    return _plain(value) if value is None or isinstance(value, str | Path) else {"object": f"a {type(value).__name__}"}


_REPEATS: Mapping[str, Callable[[Job, Any], Json]] = {
    "model": _model_again,
    "device": lambda job, value: value if _named(job) else job.device,
    "dtype": lambda job, value: _dtype(job),
    "reward": _reward_again,
    "sampler": lambda job, value: sampler_to_dict(job.sampler),
    "steps": lambda job, value: job.model.steps,
    "value": _file_again,
    "image": _file_again,
    "mask": _file_again,
    "guider": lambda job, value: None if value is None else _guider(job),
}


def _named(job: Job) -> bool:
    return isinstance(job.config.source.model, str | Path)


def _is_plain(value: Any) -> bool:
    """Whether a value consists of text, numbers, paths, lists and mappings with text keys."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | Path)


def _plain(value: Any) -> Json:
    """The value in types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else {"object": type(value).__name__}
