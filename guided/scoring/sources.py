"""Where a reward comes from: a registered name, a function, a module, a file, an entry point, or another program."""

__all__ = ["Source", "find_source", "known_rewards"]

import hashlib
import importlib.metadata
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import guided.rewards  # noqa: F401  registers the built-in rewards
from guided.errors import GuidedError, nearest
from guided.scoring.external import External
from guided.scoring.failures import Call, call_limited
from guided.scoring.locate import attribute, load_file, load_module, public_names, sha256
from guided.scoring.parameters import bind
from guided.scoring.registry import find_registered, rewards, takes_prompts

GROUP = "guided.rewards"


@dataclass(frozen=True)
class Source:
    """A reward that was found.

    Attributes:
        label: its name in columns and messages.
        call: `(samples, limit, prompts) -> scores`, as a Guard takes it.
        identity: JSON-able; "reward" names it, with "parameters" and the "sha256" of its file where it has them, and of
            the "files" that parameters name.
        rebuildable: whether `find_source` finds the same reward from the identity in another process.
        transform: its default transform.
        close: ends what it keeps running.
        prompted: whether its scores depend on the samples' prompts.
        kind: the samples that it takes, "any" for all.
    """

    label: str
    call: Call
    identity: dict[str, Any]
    rebuildable: bool = True
    transform: str | None = None
    close: Callable[[], None] = field(default=lambda: None)
    prompted: bool = False
    kind: str = "any"


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
        return _from_function(rewards()[reward].function, reward, reward, given)
    place, colon, name = reward.rpartition(":")
    if colon and (place.endswith(".py") or os.sep in place):
        return _from_file(Path(place), name, reward, given)
    if colon:
        return _from_function(attribute(load_module(place), name, place), name, reward, given)
    if reward in _entry_points():
        return _from_function(_load_entry_point(reward), reward, reward, given)
    path = Path(reward)
    if path.is_file() and os.access(path, os.X_OK):
        return _from_program(reward, [str(path.resolve())], given)
    if path.is_file() or path.suffix == ".py":
        raise GuidedError(_which_function(path, reward))
    known = known_rewards()
    raise GuidedError(f"unknown reward {reward!r}{nearest(reward, known)}; there are {', '.join(known)}")


def known_rewards() -> list[str]:
    """Names that `find_source` knows: registered ones and installed entry points, sorted."""
    return sorted({*rewards(), *_entry_points()})


def _from_function(
    function: Any,
    label: str,
    reward: str,
    given: Mapping[str, Any],
    digest: str | None = None,
    rebuildable: bool = True,
) -> Source:
    if not callable(function):
        raise GuidedError(f"reward {reward!r} is not a function but a {type(function).__name__}")
    parameters = bind(function, given, label)
    entry = find_registered(function)
    if entry is not None and entry.check is not None:
        try:
            entry.check(**parameters)
        except ValueError as error:
            raise GuidedError(f"reward {label!r}: {error}") from error
    identity: dict[str, Any] = {"reward": reward, "parameters": parameters}
    if digest:
        identity["sha256"] = digest
    files = {name: Path(value) for name, value in parameters.items() if isinstance(value, str) and value}
    digests = {name: sha256(path) for name, path in files.items() if path.is_file()}
    if digests:
        identity["files"] = digests  # so that a run does not go on with other weights

    prompted = takes_prompts(function)

    def call(samples: Any, limit: float | None, prompts: Sequence[str] | None) -> object:
        extra = {"prompts": prompts} if prompted else {}
        return call_limited(lambda: function(samples, **parameters, **extra), limit)

    transform, kind = (entry.transform, entry.kind) if entry else (None, "any")
    return Source(label, call, identity, rebuildable, transform, prompted=prompted, kind=kind)


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
    files = [Path(word) for word in command if Path(word).is_file()]
    script = next((path for path in files[1:] or files), Path(command[0]))
    digest = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()

    def call(samples: Any, limit: float | None, prompts: Sequence[str] | None) -> object:
        return external.score(samples, limit)

    return Source(script.stem, call, {"reward": reward, "sha256": digest}, close=external.close)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise GuidedError(f"external reward {command!r}: {error}") from error


def _from_file(path: Path, name: str, reward: str, given: Mapping[str, Any]) -> Source:
    function = attribute(load_file(path), name, str(path))
    return _from_function(function, name if name != "reward" else path.stem, reward, given, sha256(path))


def _which_function(path: Path, reward: str) -> str:
    if not path.is_file():
        return f"reward {reward!r}: there is no such file"
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
        raise GuidedError(f"reward {name!r} of an installed package fails: {type(error).__name__}: {error}") from error
