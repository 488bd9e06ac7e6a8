"""JSON files, and folders that are claimed by the JSON file in them."""

__all__ = ["claim", "difference", "plain", "read_json", "write_json"]

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guided.errors import GuidedError, shown
from guided.storage.files import make_folder, refuse_foreign, refuse_links, write_whole

Json = Any
DIGESTED = ("pipe_args", "guider")  # entries of a run that its model's identity depends on
LONGEST = 200  # characters of an entry in a message
RESULTS = ("shift", "scale", "metrics")  # entries that are added to a configuration at the end


def difference(old: Json, new: Json, key: str = "") -> tuple[str, str, str]:
    """The first entry, in the order of `new`, in which two JSON values differ: its key and both values.

    What a digest is of comes before the digest, which says less.
    """
    names = [_rewards(value) if key == "reward" else None for value in (old, new)]
    if names[0] and names[1] and names[0] != names[1]:
        return key, names[0], names[1]
    inner: Mapping[Any, tuple[Json, Json]] = {}
    if isinstance(old, dict) and isinstance(new, dict):
        inner = {f"{key}.{k}".strip("."): (old.get(k), new.get(k)) for k in [*new, *(k for k in old if k not in new)]}
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        inner = {f"{key}[{i}]": pair for i, pair in enumerate(zip(old, new, strict=True))}
    for name, (was, now) in sorted(inner.items(), key=lambda entry: entry[0] not in DIGESTED):
        if was != now:
            return difference(was, now, name)
    was, now = (json.dumps(value, ensure_ascii=False) for value in (old, new))
    return (key or "the configuration"), _short(was), _short(now)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _rewards(identity: Json) -> str | None:
    """The names of the rewards in an identity; None if it holds none."""
    terms = identity.get("terms") if isinstance(identity, dict) else None
    terms = terms if isinstance(terms, list) else []
    named = [term["reward"] for term in terms if isinstance(term, dict) and isinstance(term.get("reward"), str)]
    return ", ".join(named) or None


def plain(value: Any) -> Any:
    """The value as it would be read back from a JSON file."""
    return json.loads(json.dumps(value))


def read_json(path: Path, advice: str = "; use another --out") -> dict[str, Json]:
    """The object in a file.

    Args:
        path: The file.
        advice: The end of the error message.

    Raises:
        GuidedError: It cannot be read, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise GuidedError(f"{str(path)!r} is not JSON: {error}{advice}") from error
    except OSError as error:
        raise GuidedError(f"cannot read {str(path)!r}: {error.strerror or error}{advice}") from error
    if not isinstance(content, dict):
        raise GuidedError(f"{str(path)!r} must be a JSON object; it holds {shown(content)}{advice}")
    return content


def write_json(file: Path, config: Mapping[str, Any]) -> None:
    """Writes a JSON file whole."""
    write_whole(file, json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def claim(path: Path, name: str, config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Makes a folder with its configuration in a JSON file, or checks that an existing folder has this configuration.

    Args:
        path: The folder.
        name: The name of the JSON file.
        config: The configuration.
        what: Names the contents of another folder, in error messages.

    Returns:
        The contents of the file: the configuration, with the results if there are any.

    Raises:
        GuidedError: The folder has another configuration, or cannot be written.
    """
    make_folder(path)
    refuse_links(path, os.listdir(path))
    refuse_foreign(path)
    file, wanted = path / name, plain(config)
    if not file.exists():
        if (path / "run.json").exists():
            raise GuidedError(f"{str(path)!r} holds a run of samples; use another folder")
        write_json(file, wanted)
        return dict(wanted)
    found = read_json(file)
    old = {key: entry for key, entry in found.items() if key not in RESULTS}
    if old != wanted:
        key, was, now = difference(old, wanted)
        raise GuidedError(f"{str(path)!r} holds {what}: {key} is {was} there and {now} here; use another folder")
    return found
