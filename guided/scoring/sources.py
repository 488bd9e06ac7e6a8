"""Where a reward comes from: a registered name, a function, a module, a file, an entry point, or another program."""

__all__ = ["Source", "find_source", "known_rewards"]

import importlib.metadata
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import guided.rewards  # noqa: F401  registers the built-in rewards
from guided.errors import GuidedError, kind_of, nearest
from guided.scoring.dependencies import imported_modules
from guided.scoring.digests import (
    changed,
    defaults_of,
    dependencies_of,
    digests_of,
    exists,
    is_file,
    named_by,
    place_of,
    program_files,
    ships,
)
from guided.scoring.external import External
from guided.scoring.function import Function
from guided.scoring.locate import attribute, load_file, load_module, one_line, public_names
from guided.scoring.parameters import bind
from guided.scoring.protocol import Scorer
from guided.scoring.registry import RegisteredReward, find_registered, rewards, takes_prompts
from guided.storage import digest, digest_of

GROUP = "guided.rewards"
LONGEST = 200  # characters of a name in a message


@dataclass(frozen=True)
class Source:
    """A reward that was found.

    Attributes:
        label: its name in columns and messages.
        scorer: scores samples, without a time limit or a failure policy.
        identity: JSON-able; "reward" names it, with "parameters" and what its scores depend on, as SHA-256 digests: of
            its file or program ("sha256"), of its function's text ("source"), of the local "modules" that are imported,
            and of the "files" and folders that parameters name.
        rebuildable: whether `find_source` finds the same reward from the identity in another process.
        transform: its default transform.
        prompted: whether its scores depend on the samples' prompts.
        modality: the samples that it takes, "any" for all.
        opaque: why it cannot be known whether it is the same reward as before; None if it can.
        takes: the form in which it takes samples, one of :data:`~guided.scoring.registry.TAKES`.
        workers: where workers score it: in "processes", in "threads", or "none" do.
        tolerant: whether samples that fail count as -inf whatever the failure policy.
        differentiable: whether it has gradients (:mod:`guided.scoring.relaxed`).
        single: whether a call is given one sample.
        pose: gives the SDF record of what a sample's score comes from, with the reward's parameters; None for none.
        changed: whether a file on which scores depend is no longer what it was.
        module: that of its function, whose package has a version; "" for one of ours, or in a file.
    """

    label: str
    scorer: Scorer
    identity: dict[str, Any]
    rebuildable: bool = True
    transform: str | None = None
    prompted: bool = False
    modality: str = "any"
    opaque: str | None = None
    takes: str = "samples"
    workers: str = "processes"
    tolerant: bool = False
    differentiable: bool = False
    single: bool = False
    pose: Callable[[str], str] | None = None
    changed: Callable[[], bool] = field(default=lambda: False, compare=False)
    module: str = ""


def find_source(reward: str | Callable[..., Any], given: Mapping[str, Any]) -> Source:
    """The reward of a text without its query, or of a function, with the given parameters.

    Raises:
        GuidedError: there is none, or it does not take these parameters.
    """
    if not isinstance(reward, str):
        return _from_callable(reward, given)
    if reward.startswith("exec:"):
        return _from_program(reward, _words(reward.removeprefix("exec:")), given)
    if reward in rewards():
        function = rewards()[reward].function
        return _from_function(function, reward, reward, given, module=function.__module__)
    place, colon, name = reward.rpartition(":")
    if colon and (place.endswith(".py") or os.sep in place):
        return _from_file(Path(place).expanduser(), name, reward, given)
    if colon:
        return _from_function(attribute(load_module(place), name, place), name, reward, given, module=place)
    if reward in _entry_points():
        module = _entry_points()[reward].module
        return _from_function(_load_entry_point(reward), reward, reward, given, module=module)
    path = Path(reward).expanduser()
    if is_file(path) and os.access(path, os.X_OK):
        return _from_program(reward, [str(path.resolve())], given)
    if is_file(path) or path.suffix == ".py":
        raise GuidedError(_which_function(path, reward))
    known = known_rewards()
    name = reward[:LONGEST]
    raise GuidedError(f"unknown reward {name!r}{nearest(name, known)}; it is one of {', '.join(known)}")


def known_rewards() -> list[str]:
    """Names that `find_source` knows: registered ones and installed entry points, sorted."""
    return sorted({*rewards(), *_entry_points()})


def _from_function(
    function: Any,
    label: str,
    reward: str,
    given: Mapping[str, Any],
    path: Path | None = None,
    rebuildable: bool = True,
    module: str = "__main__",
) -> Source:
    if not callable(function):
        raise GuidedError(f"reward {reward!r} is not a function but {kind_of(function)}")
    entry = find_registered(function)
    shipped = getattr(function, "__module__", "").startswith("guided.rewards.")
    parameters = bind(function, given, label)
    absolute = {name: _absolute(value) for name, value in parameters.items()} if shipped else parameters
    _check(entry, absolute, label)
    dependencies, opaque = dependencies_of(function, path, shipped, module)
    files = {**({} if shipped else defaults_of(function)), **parameters}
    digests = digests_of(files)  # so that a run does not go on with other weights
    identity = {"reward": reward, "parameters": parameters, **dependencies, **({"files": digests} if digests else {})}
    prompted = takes_prompts(function)
    entry = entry or RegisteredReward(label, function)
    return Source(
        label,
        Function(function, absolute, prompted),
        identity,
        rebuildable,
        entry.transform,
        prompted,
        entry.modality,
        opaque,
        entry.takes,
        entry.workers,
        entry.tolerant,
        entry.differentiable,
        entry.single,
        entry.pose and partial(entry.pose, **absolute),
        partial(changed, path and path.absolute(), dependencies, *_fixed(files, digests)),
        "" if shipped or path is not None else module,
    )


def _fixed(given: Mapping[str, Any], digests: Mapping[str, str]) -> tuple[dict[str, Path], dict[str, str]]:
    """The files that parameters name, and their digests; not folders, which a reward may write to."""
    places = {name: place for name in digests if is_file(place := place_of(given[name]))}
    return places, {name: digests[name] for name in places}


def _check(entry: RegisteredReward | None, parameters: Mapping[str, Any], label: str) -> None:
    if entry is not None and entry.check is not None:
        try:
            entry.check(**parameters)
        except ValueError as error:
            raise GuidedError(f"reward {label!r}: {error}") from error


def _absolute(value: Any) -> Any:
    """A parameter that names a file or folder, so that it is still the same when the current folder is another."""
    if not isinstance(value, str) or not value or ships(value):
        return value
    path = Path(value).expanduser()
    return str(path.absolute()) if exists(path) else value


def _from_callable(function: Callable[..., Any], given: Mapping[str, Any]) -> Source:
    if not callable(function):
        raise GuidedError(f"a reward is a name, a function, or a mapping of these to weights, given {function!r}")
    entry = find_registered(function)
    if entry is not None:
        return _from_function(function, entry.name, entry.name, given, rebuildable=function.__module__ != "__main__")
    kind = function if hasattr(function, "__qualname__") else type(function)
    label = getattr(kind, "__name__", "reward").strip("<>")
    return _from_function(function, label, f"{kind.__module__}:{kind.__qualname__}", given, rebuildable=False)


def _from_program(reward: str, command: list[str], given: Mapping[str, Any]) -> Source:
    if given:
        raise GuidedError(f"an external reward takes no parameters after '?', given {', '.join(given)}: use arguments")
    external = External(command)
    files, known = program_files(command)
    scripts = [path for path in files if path.suffix == ".py"]
    modules = {name: found for path in scripts for name, found in imported_modules(path).items()}
    named = named_by(command)
    identity: dict[str, Any] = {"reward": reward, "sha256": digest_of("".join(map(digest, files)))}
    identity |= {key: found for key, found in (("modules", modules), ("files", named)) if found}
    label = next(iter(files[1:] or files), Path(command[0])).stem
    opaque = None if known else f"it cannot be known what the program {command[0]!r} runs"
    return Source(label, external, identity, opaque=opaque)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise GuidedError(f"external reward {command!r}: {error}") from error


def _from_file(path: Path, name: str, reward: str, given: Mapping[str, Any]) -> Source:
    function = attribute(load_file(path), name, str(path))
    return _from_function(function, name if name != "reward" else path.stem, reward, given, path)


def _which_function(path: Path, reward: str) -> str:
    if not is_file(path):
        return f"reward {reward[:LONGEST]!r}: there is no such file"
    if path.suffix != ".py":
        return f"reward {reward!r}: the file is not executable (chmod +x), and not a Python file"
    functions = ", ".join(public_names(load_file(path))) or "none"
    return f"reward {reward!r}: say which function, as {path}:FUNCTION; it has {functions}"


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def _load_entry_point(name: str) -> Any:
    try:
        return _entry_points()[name].load()
    except Exception as error:
        raise GuidedError(f"reward {name!r} of an installed package fails: {one_line(error)}") from error
