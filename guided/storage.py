"""Files: whole or not there, whenever a kill comes; CSV, JSON and safetensors; folders that are claimed."""

__all__ = [
    "claim",
    "csv_text",
    "difference",
    "digest",
    "plain",
    "read_csv",
    "read_json",
    "read_rows",
    "whole",
    "write_csv",
    "write_json",
    "write_network",
    "write_tensors",
    "write_whole",
]

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from guided.errors import GuidedError

Json = Any
RESULTS = ("shift", "scale", "metrics")  # entries of a configuration that are added at the end


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Hands out the path to write to; what was written there is synced, and takes the place of `path` at the end.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    part = path.with_name(path.name + ".part")
    yield part
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that a kill leaves the old one or the new one; text as UTF-8.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    with whole(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def difference(old: Json, new: Json, key: str = "") -> tuple[str, str, str]:
    """The first entry, in the order of `new`, in which two JSON values differ: its key and both values."""
    inner: Mapping[Any, tuple[Json, Json]] = {}
    if isinstance(old, dict) and isinstance(new, dict):
        inner = {f"{key}.{k}".strip("."): (old.get(k), new.get(k)) for k in [*new, *(k for k in old if k not in new)]}
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        inner = {f"{key}[{i}]": pair for i, pair in enumerate(zip(old, new, strict=True))}
    for name, (was, now) in inner.items():
        if was != now:
            return difference(was, now, name)
    was, now = (json.dumps(value, ensure_ascii=False) for value in (old, new))
    return key, was, now


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the whole rows of a file, up to the first that a kill has torn; nothing when it is not there."""
    text = path.read_bytes().decode(errors="ignore") if path.exists() else ""
    header, *rows = [*csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))] or [[]]
    torn = next((i for i, row in enumerate(rows) if len(row) != len(header)), len(rows))
    return header, rows[:torn]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a file, each by its columns; none when it is not there."""
    header, rows = read_csv(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_json(path: Path) -> dict[str, Json]:
    """The object in a file; raises GuidedError when it is not JSON."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise GuidedError(f"{str(path)!r} is not JSON: {error}; use another --out") from error
    return content if isinstance(content, dict) else {}


def csv_text(rows: Iterable[Iterable[Json]]) -> str:
    """Rows as lines of a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)  # writes floats with repr
    return text.getvalue()


def write_csv(path: Path, rows: Iterable[Iterable[Json]]) -> None:
    """Writes a file whole: the old one or the new one, whenever a kill comes."""
    write_whole(path, csv_text(rows))


def plain(value: Any) -> Any:
    """The value as it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def claim(path: Path, name: str, config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Makes a folder with a JSON file that says what is in it, or finds it there.

    Returns:
        What the file says: the configuration, with the results if it has any.

    Raises:
        GuidedError: The folder is there for another configuration.
    """
    path.mkdir(parents=True, exist_ok=True)
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


def write_json(file: Path, config: Mapping[str, Any]) -> None:
    """Writes a JSON file whole."""
    write_whole(file, json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_network(file: Path, net: nn.Module) -> None:
    """Writes the weights whole."""
    write_tensors(file, net.state_dict())


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors whole, as safetensors, in the precision that they have."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole(file) as part:
        save_file(ready, part, metadata=metadata)


def digest(path: Path) -> str:
    """The SHA-256 digest of a file."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()
