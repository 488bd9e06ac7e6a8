"""Files: whole or not there, whenever a kill comes; CSV, JSON, safetensors; folders that are locked and claimed.

What cannot be written is one line, a GuidedError with the folder and what the system says, whoever writes.
"""

__all__ = [
    "append_csv",
    "claim",
    "csv_text",
    "difference",
    "digest",
    "digest_of",
    "lock",
    "make_folder",
    "parse_csv",
    "plain",
    "read_csv",
    "read_json",
    "read_rows",
    "read_tensors",
    "refuse_links",
    "whole",
    "write_csv",
    "write_json",
    "write_network",
    "write_tensors",
    "write_whole",
    "writing",
]

import csv
import errno
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from guided.errors import GuidedError

Json = Any
RESULTS = ("shift", "scale", "metrics")  # entries of a configuration that are added at the end
UNLOCKABLE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # of a file system that has no locks

# A cell of a line in CSV with what ends it. Lines end at \n or \r\n alone: other ends of lines are text.
_CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^,\n]*?))(,|\r?\n|\Z)')
_noted: set[str] = set()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Makes what the system says about a folder that cannot be written one line.

    Raises:
        GuidedError: An OSError was raised inside: the disk is full, the folder cannot be written, or is none.
    """
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        raise GuidedError(f"cannot write to the folder {str(folder)!r}: {said}") from error


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, if it is not there.

    Raises:
        GuidedError: It cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Hands out the path to write to; what was written there is synced, and takes the place of `path` at the end.

    The file has the permissions that the process gives new files, whatever the writer chose.

    Raises:
        GuidedError: The folder cannot be written, or the disk is full.
    """
    part = path.with_name(path.name + ".part")
    with writing(path.parent):
        part.unlink(missing_ok=True)  # or it would be written through, where it is a link
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that a kill leaves the old one or the new one; text as UTF-8.

    Raises:
        GuidedError: The folder cannot be written, or the disk is full.
    """
    with whole(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds a folder, which is made if it is not there, so that two processes cannot mix their files.

    A process that ends, however it ends, lets go. Where the file system has no locks, a note on standard error says
    once that nothing keeps another process out.

    Raises:
        GuidedError: Another process holds the folder, or it cannot be written.
    """
    make_folder(folder)
    with writing(folder):
        handle = _hold(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _hold(folder: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # not POSIX
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in UNLOCKABLE:
            _note(f"the file system of {str(folder)!r} has no locks: nothing keeps two processes in it apart")
            return None
        if isinstance(error, BlockingIOError):
            raise GuidedError(f"another process is writing to {str(folder)!r}") from error
        raise
    return handle


def _note(text: str) -> None:
    if text not in _noted:
        _noted.add(text)
        print(f"note: {text}", file=sys.stderr)


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Refuses entries of a folder that are links out of it: what is written there would change somebody else's files.

    Args:
        folder: The folder.
        names: The entries that are written; those that are not there pass.

    Raises:
        GuidedError: One is such a link.
    """
    for name in names:
        path = folder / name
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise GuidedError(
                f"{str(path)!r} is a link out of its folder, to {str(path.resolve())!r}: nothing is written or removed "
                "there; use another folder, or remove the link"
            )


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


def parse_csv(text: str) -> list[list[str]]:
    """The rows of a text of CSV, but for a last one that a kill has torn.

    A row ends at a line feed, with or without a carriage return before it. The library's reader ends one at a lone
    carriage return too, which text samples may hold, and refuses cells above 131,072 characters.
    """
    text = text.removeprefix("\ufeff")
    text = text[: text.rfind("\n") + 1]
    rows: list[list[str]] = []
    row: list[str] = []
    place = 0
    while cell := _CELL.match(text, place) if place < len(text) else None:
        quoted, bare, end = cell.groups()
        if quoted is None and bare.startswith('"') and text.count('"', place) % 2:
            break  # the last cell has no end
        row.append(bare if quoted is None else quoted.replace('""', '"'))
        if end != ",":
            rows.append([] if row == [""] and quoted is None else row)
            row = []
        place = cell.end()
    return rows


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the whole rows of a file, up to the first that a kill has torn; nothing when it is not there."""
    text = path.read_bytes().decode(errors="ignore") if path.exists() else ""
    header, *rows = parse_csv(text) or [[]]
    torn = next((i for i, row in enumerate(rows) if len(row) != len(header)), len(rows))
    return header, rows[:torn]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a file, each by its columns; none when it is not there."""
    header, rows = read_csv(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def csv_text(rows: Iterable[Iterable[Json]]) -> str:
    """Rows as lines of a CSV file, which end with a line feed; a cell with either end of a line is quoted."""
    lines = []
    for row in rows:
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\r\n").writerow(row)  # writes floats with repr
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def write_csv(path: Path, rows: Iterable[Iterable[Json]]) -> None:
    """Writes a file whole: the old one or the new one, whenever a kill comes."""
    write_whole(path, csv_text(rows))


def append_csv(path: Path, header: Iterable[str] | None, rows: Iterable[Iterable[Json]]) -> None:
    """Adds rows to a file, synced.

    Args:
        path: The file.
        header: Begins the file anew; None to go on with one that is there.
        rows: The rows.

    Raises:
        GuidedError: The disk is full, the folder cannot be written, or the file is gone.
    """
    with writing(path.parent), path.open("r+b" if header is None else "wb") as file:
        file.seek(0, os.SEEK_END)
        file.write(csv_text([*([] if header is None else [header]), *rows]).encode())
        file.flush()
        os.fsync(file.fileno())


def plain(value: Any) -> Any:
    """The value as it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def read_json(path: Path, advice: str = "; use another --out") -> dict[str, Json]:
    """The object in a file, empty where it holds none.

    Args:
        path: The file.
        advice: Ends the message.

    Raises:
        GuidedError: It is not JSON.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise GuidedError(f"{str(path)!r} is not JSON: {error}{advice}") from error
    return content if isinstance(content, dict) else {}


def write_json(file: Path, config: Mapping[str, Any]) -> None:
    """Writes a JSON file whole."""
    write_whole(file, json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def claim(path: Path, name: str, config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Makes a folder with a JSON file that says what is in it, or finds it there.

    Args:
        path: The folder.
        name: The JSON file's.
        config: What shall be in it.
        what: What it is called in a refusal.

    Returns:
        What the file says: the configuration, with the results if it has any.

    Raises:
        GuidedError: The folder is there for another configuration, or cannot be written.
    """
    make_folder(path)
    refuse_links(path, os.listdir(path))
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


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        GuidedError: It is truncated, or no such file.
    """
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError) as error:
        raise GuidedError(f"{path} is truncated, or no safetensors file ({error})") from error


def write_network(file: Path, net: nn.Module) -> None:
    """Writes the weights whole."""
    write_tensors(file, net.state_dict())


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors whole, as safetensors, in the precision that they have.

    Raises:
        GuidedError: The folder cannot be written, or the disk is full.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole(file) as part:
        try:
            save_file(ready, part, metadata=metadata)
        except SafetensorError as error:  # which hides what the system said
            raise OSError(str(error)) from error


def digest(path: Path) -> str:
    """The SHA-256 digest of a file."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()


def digest_of(content: str | bytes) -> str:
    """The SHA-256 digest of bytes, or of text as UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
