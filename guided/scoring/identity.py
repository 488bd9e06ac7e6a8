"""Whether a reward is the one that a file recorded. What a former version did not record is not held against it."""

__all__ = ["as_recorded", "changed", "check_trust", "files_of", "recorded"]

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guided.errors import GuidedError

#: Entries of a term that say what its scores depend on. Not all of them were always recorded.
DIGESTS = ("sha256", "files", "modules", "source")


def as_recorded(old: Any, new: Any) -> Any:
    """Of two identities of an objective, the old one where it agrees in all that it records, otherwise the new one."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    before, after = old.get("terms"), new.get("terms")
    same = (
        isinstance(before, list)
        and isinstance(after, list)
        and len(before) == len(after)
        and {**old, "terms": 0} == {**new, "terms": 0}
        and all(_agree(*pair) for pair in zip(before, after, strict=True))
    )
    return old if same else new


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """The first of the digests of a term that the old one records and in which the new one differs."""
    return next((key for key in DIGESTS if key in old and not _same(key, old[key], new.get(key))), None)


def files_of(identity: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The digests of the files that each term of an objective was made from, which every process must find the same."""
    terms = identity["terms"] if identity else []
    return [{key: term[key] for key in ("sha256", "files") if key in term} for term in terms]


def _agree(old: Any, new: Any) -> bool:
    if not isinstance(old, Mapping):
        return False
    rest = [{key: value for key, value in term.items() if key not in DIGESTS} for term in (old, new)]
    return rest[0] == rest[1] and changed(old, new) is None


def _same(key: str, old: Any, new: Any) -> bool:
    if key == "files" and isinstance(old, Mapping) and isinstance(new, Mapping):
        return all(new.get(name) == digest for name, digest in old.items())  # folders were not recorded once
    return bool(old == new)


def recorded(file: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its reward as the file records it, where it is the same one."""
    try:
        old = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):  # not there, or said by who reads it
        old = None
    return {**config, "reward": as_recorded(old.get("reward") if isinstance(old, Mapping) else None, config["reward"])}


def check_trust(place: Path, opaque: str | None, trust: bool) -> None:
    """Refuses to go on with, or to use, what is in a folder for a reward that cannot be known to be the same.

    Args:
        place: a file that is there if the folder is in use.
        opaque: `Objective.opaque`.
        trust: whether it is to be taken for the same nevertheless.

    Raises:
        GuidedError: it is not known, and not to be trusted.
    """
    if opaque and not trust and place.exists():
        raise GuidedError(
            f"{str(place.parent)!r} is in use, and {opaque}; use another folder, or a function in a file, or say that "
            "it is the same with trust_rewards=True"
        )
