"""The digests that tell a reward from another: of its file, of its imports, of what parameters and arguments name."""

__all__ = [
    "changed",
    "defaults_of",
    "dependencies_of",
    "digests_of",
    "exists",
    "is_file",
    "named_by",
    "place_of",
    "program_files",
    "ships",
    "version_of",
]

import importlib.metadata
import inspect
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guided.checkpoints import FOLDER
from guided.errors import GuidedError
from guided.scoring.dependencies import imported_modules, is_library, known_of, path_digest
from guided.storage import digest

#: Programs that run what their arguments say.
INTERPRETER = re.compile(
    r"(python|pypy|sh|bash|dash|zsh|env|perl|ruby|node|java|julia|Rscript|conda|mamba|micromamba|uv|docker|podman|apptainer"
    r"|singularity|ssh)[\d.]*"
)


def dependencies_of(function: Any, path: Path | None, shipped: bool, module: str) -> tuple[dict[str, Any], str | None]:
    """The digests of what a function depends on, and why it cannot be known, if so. A version stands for ours."""
    if shipped:
        return {}, None
    if path is not None:
        return _of_file(path), None
    known = known_of(function, module)
    found: dict[str, Any] = {"source": known.source}
    if known.modules:
        found["modules"] = dict(sorted(known.modules.items()))
    return found, known.opaque


def _of_file(path: Path) -> dict[str, Any]:
    """The digests of a file of Python and of what it imports."""
    modules = imported_modules(path)
    return {"sha256": digest(path), **({"modules": modules} if modules else {})}


def defaults_of(function: Any) -> dict[str, Any]:
    """The parameters of a function whose default names a file."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # one that is not written in Python
        return {}
    given = {name: p.default for name, p in parameters.items() if isinstance(p.default, str | os.PathLike)}
    return {name: default for name, default in given.items() if is_file(Path(default).expanduser())}


def digests_of(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The digests of the files and folders that parameters name."""
    return {name: found for name, value in parameters.items() if (found := _digest_of(value))}


def _digest_of(value: Any) -> str | None:
    """The digest of the file or folder that a parameter names, if it does."""
    if not isinstance(value, str | os.PathLike) or not str(value) or ships(value):
        return None
    return path_digest(Path(value).expanduser())


def changed(path: Path | None, known: Mapping[str, Any], files: Mapping[str, Any], digests: Mapping[str, str]) -> bool:
    """Whether the file of a function, a module that it imports, or a file that a parameter names is another one now."""
    try:
        return digests_of(files) != digests or (path is not None and _of_file(path) != known)
    except (OSError, GuidedError):
        return True


def version_of(module: str) -> str:
    """The names and versions of the installed package that a module is of; "" for a module of the user's."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not is_library(Path(file)):
        return ""
    names = sorted({*importlib.metadata.packages_distributions().get(module.partition(".")[0], [])})
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def place_of(value: Any) -> Path:
    """The absolute path that a parameter names."""
    return Path(value).expanduser().absolute()


def program_files(command: list[str]) -> tuple[list[Path], bool]:
    """The files that a command runs or reads, and whether what it runs is among them."""
    files = [Path(word) for word in command if is_file(Path(word))]
    program = Path(shutil.which(command[0]) or command[0])
    if not INTERPRETER.fullmatch(program.name):
        return (files if Path(command[0]) in files else [program, *files]), True
    if "-m" not in command[:-1]:
        return files, "-c" not in command and any(file != Path(command[0]) for file in files)
    place = Path(*command[command.index("-m") + 1].split("."))
    module = [file for file in (place.with_suffix(".py"), place / "__main__.py") if is_file(file)]
    return [*files, *module], bool(module)


def named_by(command: list[str]) -> dict[str, str]:
    """The digests of folders, and of what options name, as in `--weights=FILE`."""
    given = {word: word.partition("=")[2] if word.startswith("-") else word for word in command[1:]}
    return digests_of({word: name for word, name in given.items() if not is_file(Path(word))})


def ships(value: Any) -> bool:
    """Whether a name is one of ours, although a folder of the user's may have it."""
    return exists(FOLDER / "dna_oracle" / str(value)) and os.sep not in str(value)


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; a text may be no path at all."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that is too long for a path, or has a null in it
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file."""
    return exists(path) and path.is_file()
