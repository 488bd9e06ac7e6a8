"""Where a reward comes from: a registered name, a function, a module, a file, an entry point, or another program."""

__all__ = ["Source", "find_source", "known_rewards"]

import importlib.metadata
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import guided.rewards  # noqa: F401  registers the built-in rewards
from guided.checkpoints import FOLDER
from guided.errors import GuidedError, kind_of, nearest
from guided.scoring.dependencies import imported_modules, is_library, known_of, path_digest
from guided.scoring.external import External
from guided.scoring.function import Function
from guided.scoring.locate import attribute, load_file, load_module, one_line, public_names
from guided.scoring.parameters import bind
from guided.scoring.protocol import Scorer
from guided.scoring.registry import RegisteredReward, find_registered, rewards, takes_prompts
from guided.storage import digest, digest_of

GROUP = "guided.rewards"
LONGEST = 200  # characters of a name in a message
#: Programs that run what their arguments say.
INTERPRETER = re.compile(
    r"(python|pypy|sh|bash|dash|zsh|env|perl|ruby|node|java|julia|Rscript|conda|mamba|micromamba|uv|docker|podman|apptainer"
    r"|singularity|ssh)[\d.]*"
)


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
        version: of the installed package that its function is from; "" for another function.
        changed: whether a file on which scores depend is no longer what it was.
        pose: gives the SDF record of what a sample's score comes from, with the reward's parameters; None for none.
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
    version: str = ""


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
    if _is_file(path) and os.access(path, os.X_OK):
        return _from_program(reward, [str(path.resolve())], given)
    if _is_file(path) or path.suffix == ".py":
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
    dependencies, opaque = _dependencies(function, path, shipped, module)
    files = {**({} if shipped else _defaults(function)), **parameters}
    digests = _digests(files)  # so that a run does not go on with other weights
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
        partial(
            _changed, path and path.absolute(), dependencies, {name: _place(files[name]) for name in digests}, digests
        ),
        "" if shipped or path is not None else _version(module),
    )


def _check(entry: RegisteredReward | None, parameters: Mapping[str, Any], label: str) -> None:
    if entry is not None and entry.check is not None:
        try:
            entry.check(**parameters)
        except ValueError as error:
            raise GuidedError(f"reward {label!r}: {error}") from error


def _dependencies(function: Any, path: Path | None, shipped: bool, module: str) -> tuple[dict[str, Any], str | None]:
    """The digests of what a function depends on, and why it cannot be known, if so. A version stands for ours."""
    if shipped:
        return {}, None
    if path is not None:
        modules = imported_modules(path)
        return {"sha256": digest(path), **({"modules": modules} if modules else {})}, None
    known = known_of(function, module)
    found: dict[str, Any] = {"source": known.source}
    if known.modules:
        found["modules"] = dict(sorted(known.modules.items()))
    return found, known.opaque


def _defaults(function: Any) -> dict[str, Any]:
    """The parameters of a function that have a default."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # one that is not written in Python
        return {}
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def _digests(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The digests of the files and folders that parameters name."""
    return {name: found for name, value in parameters.items() if (found := _digest_of(value))}


def _changed(path: Path | None, known: Mapping[str, Any], files: Mapping[str, Any], digests: Mapping[str, str]) -> bool:
    """Whether the file of a function, a module that it imports, or a file that a parameter names is another one now."""
    try:
        here = {} if path is None else _dependencies(None, path, False, "")[0]
        return _digests(files) != digests or (path is not None and here != known)
    except (OSError, GuidedError):
        return True


def _place(value: Any) -> Path:
    return Path(value).expanduser().absolute()


def _version(module: str) -> str:
    """The names and versions of the installed package that a module is of; "" for a module of the user's."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not is_library(Path(file)):
        return ""
    names = sorted({*importlib.metadata.packages_distributions().get(module.partition(".")[0], [])})
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _digest_of(value: Any) -> str | None:
    """The digest of the file or folder that a parameter names, if it does."""
    if not isinstance(value, str | os.PathLike) or not str(value) or _ships(value):
        return None
    return path_digest(Path(value).expanduser())


def _absolute(value: Any) -> Any:
    """A parameter that names a file or folder, so that it is still the same when the current folder is another."""
    if not isinstance(value, str) or not value or _ships(value):
        return value
    path = Path(value).expanduser()
    return str(path.absolute()) if _exists(path) else value


def _ships(value: Any) -> bool:
    """Whether a name is one of ours, although a folder of the user's may have it."""
    return _exists(FOLDER / "dna_oracle" / str(value)) and os.sep not in str(value)


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
    files, known = _program_files(command)
    scripts = [path for path in files if path.suffix == ".py"]
    modules = {name: found for path in scripts for name, found in imported_modules(path).items()}
    named = _named(command)
    identity: dict[str, Any] = {"reward": reward, "sha256": digest_of("".join(map(digest, files)))}
    identity |= {key: found for key, found in (("modules", modules), ("files", named)) if found}
    label = next(iter(files[1:] or files), Path(command[0])).stem
    opaque = None if known else f"it cannot be known what the program {command[0]!r} runs"
    return Source(label, external, identity, opaque=opaque)


def _program_files(command: list[str]) -> tuple[list[Path], bool]:
    """The files that a command runs or reads, and whether what it runs is among them."""
    files = [Path(word) for word in command if _is_file(Path(word))]
    program = Path(shutil.which(command[0]) or command[0])
    if not INTERPRETER.fullmatch(program.name):
        return (files if Path(command[0]) in files else [program, *files]), True
    if "-m" not in command[:-1]:
        return files, "-c" not in command and any(file != Path(command[0]) for file in files)
    place = Path(*command[command.index("-m") + 1].split("."))
    module = [file for file in (place.with_suffix(".py"), place / "__main__.py") if _is_file(file)]
    return [*files, *module], bool(module)


def _named(command: list[str]) -> dict[str, str]:
    """The digests of folders, and of what options name, as in `--weights=FILE`."""
    given = {word: word.partition("=")[2] if word.startswith("-") else word for word in command[1:]}
    return _digests({word: name for word, name in given.items() if not _is_file(Path(word))})


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that is too long for a path, or has a null in it
        return False


def _is_file(path: Path) -> bool:
    return _exists(path) and path.is_file()


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise GuidedError(f"external reward {command!r}: {error}") from error


def _from_file(path: Path, name: str, reward: str, given: Mapping[str, Any]) -> Source:
    function = attribute(load_file(path), name, str(path))
    return _from_function(function, name if name != "reward" else path.stem, reward, given, path)


def _which_function(path: Path, reward: str) -> str:
    if not _is_file(path):
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
