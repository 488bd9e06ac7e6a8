"""Options in files, TOML or the `run.json` of a run; those of the command line take precedence."""

__all__ = ["assembled", "read_options"]

import ast
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from guided.errors import GuidedError, kind_of, nearest, shown
from guided.names import split_pair
from guided.runs.config import PROMPTS, RunConfig, Shorthand
from guided.runs.options import options_of, spelled
from guided.runs.paths import read_prompts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

FIELDS = ("M", "alpha", "set")  # options that set hyperparameters of the sampler
PATHS = ("model", "value", "negative", "image", "mask", "cache")


def assembled(given: Mapping[str, Any], config: type[RunConfig] = RunConfig) -> RunConfig:
    """The run that is described by options of the command line and by those in the file of `--config`.

    Args:
        given: The options that were given, by name.
        config: The class of the description.

    Raises:
        GuidedError: An option is wrong, or the file is.
    """
    given = dict(given)
    path = given.pop("config", None)
    there = {} if path is None else read_options(Path(path).expanduser(), config)
    defaults = {name: it.shell_default for name, it in options_of(config).items() if it.shell_default != it.default}
    values = {**defaults, **there, **given}
    values["sampler"] = _sampler(there, given)
    texts = given if {"prompt", "prompts"} & given.keys() else there
    n = values["n"] if isinstance(values["n"], int) else 1
    values["prompt"] = _prompt(texts, n)
    if isinstance(values.get("reward"), list) and len(values["reward"]) == 1:
        [values["reward"]] = values["reward"]
    for name in (*FIELDS, "prompts"):
        values.pop(name, None)
    if "model" not in values:
        raise GuidedError("Missing argument 'MODEL': give a name of `guided models`, or the path of a checkpoint")
    missing = next((name for name, value in values.items() if isinstance(value, _Unrecorded)), None)
    if missing is not None:
        raise GuidedError(f"{values[missing]}; give {spelled(missing)}")
    try:
        return config.of(**values)
    except GuidedError as error:
        raise _in_file(error, path, there.keys() - given.keys()) from error


def _in_file(error: GuidedError, path: Any, names: Iterable[str]) -> GuidedError:
    """The error, naming the file if the value of one of the options from there is wrong."""
    for name in names:
        if str(error).startswith((f"{spelled(name)} is ", f"{spelled(name)}[")):
            return GuidedError(f"{str(path)!r}: {name}{str(error).removeprefix(spelled(name))}")
    return error


def read_options(path: Path, config: type[RunConfig] = RunConfig) -> dict[str, Any]:
    """The options in a TOML file or in the `run.json` of a run, by name.

    Raises:
        GuidedError: The file cannot be read, or has an unknown option.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GuidedError(f"cannot read the options {str(path)!r}: {getattr(error, 'strerror', error)}") from error
    try:
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        form = "JSON" if path.suffix == ".json" else "TOML"
        raise GuidedError(f"{str(path)!r} is not {form}: {error}") from error
    if not isinstance(found, dict):
        raise GuidedError(f"{str(path)!r} holds {shown(found)}; it must be the run.json of a run, or options by name")
    if isinstance(found.get("config"), dict):
        found = _of_run(found, str(path))
    known = [name for name in options_of(config, Shorthand) if name != "config"]
    for name in found:
        if name not in known:
            raise GuidedError(
                f"{str(path)!r} has no option {name!r}{nearest(name, known)}; it is one of {', '.join(known)}"
            )
    return {name: value for name, value in found.items() if value is not None}


def _of_run(run: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The options in a `run.json`, also in one of the former version."""
    if "options" in run:
        if not isinstance(run["options"], dict):
            raise GuidedError(
                f"{path!r} has options {shown(run['options'])}; it must be an object with options by name"
            )
        given = {name: run["config"][name] for name in PROMPTS if isinstance(run["config"].get(name), list)}
        options = {**given, **run["options"]}  # lists of prompts are in the configuration only
        options = {name: _located(name, value, run.get("folder", "")) for name, value in options.items()}
    else:
        config = run["config"]
        options = {name: value for name, value in config.items() if name not in ("identity", "process")}
        for name in ("image", "mask"):
            if isinstance(options.get(name), dict):
                options[name] = options[name].get("file")
        if "value" in options:
            options["value"] = {"object": "a value of which only the digest is recorded"}
    for name, value in options.items():
        if isinstance(value, dict) and "object" in value:
            options[name] = _Unrecorded(f"{path!r} does not hold its {name}: {value['object']}")
    return options


class _Unrecorded(str):
    """An option that a file could not record, as a message; an error unless the command line gives the option."""


def _located(name: str, value: Any, folder: str) -> Any:
    """A relative path; one that does not exist here is taken from the folder in which the run was started."""
    if name == "pipe_args" and isinstance(value, dict):
        return {key: _located(PATHS[0], entry, folder) for key, entry in value.items()}
    if name not in PATHS or not isinstance(value, str):
        return value
    place, mark, query = value.partition("?")
    moved = Path(folder if isinstance(folder, str) else "", place)
    return f"{moved}{mark}{query}" if not Path(place).exists() and moved.exists() else value


def _prompt(values: Mapping[str, Any], n: int) -> Any:
    """The prompt of all requests, or one for each; the lines of a file are repeated, each n / lines times."""
    if values.get("prompts") is None:
        return values.get("prompt")
    if not isinstance(values["prompts"], str | Path):
        raise GuidedError(f"{spelled('prompts')} is {kind_of(values['prompts'])}; it must be the path of a file")
    if values.get("prompt") is not None:
        raise GuidedError(f"{spelled('prompt')} and {spelled('prompts')} exclude each other")
    lines = read_prompts(values["prompts"])
    if n < 1 or n % len(lines):
        raise GuidedError(
            f"{str(values['prompts'])!r} has {len(lines)} lines and {spelled('n')} is {n}; "
            f"{spelled('n')} must be a multiple of the number of prompts"
        )
    return [line for line in lines for _ in range(n // len(lines))]


def _sampler(there: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The sampler's name and hyperparameters; the command line takes precedence over the file."""
    first, second = _fields(there), _fields(given)
    if "name" in second and second["name"] != first.get("name", "svdd"):
        return second
    return {"name": "svdd", **first, **second}


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The sampler's name and hyperparameters that were given."""
    sampler = values.get("sampler", {})
    if not isinstance(sampler, str | Mapping):
        raise GuidedError(f"{spelled('sampler')} is {kind_of(sampler)}; it must be a name, or a table with its fields")
    found = {"name": sampler} if isinstance(sampler, str) else dict(sampler)
    pairs = [(name, values[name]) for name in ("M", "alpha") if values.get(name) is not None]
    for pair in _listed(values.get("set") or []):
        if not isinstance(pair, str):
            raise GuidedError(f"{spelled('set')} is {shown(pair)}; it must be FIELD=VALUE, as in {spelled('set')} N=10")
        split = split_pair(pair)
        if split is None:
            raise GuidedError(f"{spelled('set')} is {pair!r}; it must be FIELD=VALUE, as in {spelled('set')} N=10")
        pairs.append(split)
    for name, value in pairs:
        if name in found:
            raise GuidedError(f"the sampler's {name} is given twice")
        found[name] = _plain(name, value) if isinstance(value, str) else value
    return found


def _listed(value: Any) -> list[Any]:
    """The entries of a list; anything else as the only one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(name: str, text: str) -> Any:
    """A number, or a list of numbers for a schedule over the steps: JSON, where the brackets may be left out, or as
    Python writes it (`.5`, `True`, `None`, `(0, .5)`). What is neither is a word, but for `M` and `alpha`, which are
    numbers in all samplers.
    """
    for read in (json.loads, ast.literal_eval):
        for form in (text, f"[{text}]"):
            try:
                found = read(form)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if _is_value(found):
                return found
    if name in ("M", "alpha"):
        raise GuidedError(
            f"the sampler's {name} is {text!r}; it must be a number, or numbers with commas for a schedule"
        )
    return text


def _is_value(found: Any) -> bool:
    """Whether a hyperparameter may be this, or a list of it."""
    if isinstance(found, list | tuple):
        return all(map(_is_value, found))
    return found is None or isinstance(found, int | float | str)
