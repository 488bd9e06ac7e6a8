"""A Python object by the place where it stands: `path/file.py:name` or `package.module:name`."""

__all__ = ["attribute", "load_file", "load_module", "public_names", "sha256"]

import hashlib
import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from guided.errors import GuidedError, nearest


def load_file(path: Path) -> ModuleType:
    """Runs a Python file as a module, with its own folder at the end of the import path.

    Raises:
        GuidedError: there is no such Python file, or it fails.
    """
    if not path.is_file() or path.suffix != ".py":
        raise GuidedError(f"there is no Python file {str(path)!r}")
    name = f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = str(path.resolve())
    sys.modules[name] = module  # dataclasses and pickle look their module up
    _see(path.resolve().parent)
    try:
        # Not by importlib: its cache of bytecode takes a file changed within a second for the old one.
        exec(compile(path.read_bytes(), module.__file__, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise GuidedError(f"file {str(path)!r} fails: {_one_line(error)}") from error
    return module


def load_module(name: str) -> ModuleType:
    """Imports a module; the current folder is searched last.

    Raises:
        GuidedError: it cannot be imported.
    """
    _see(Path.cwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise GuidedError(f"module {name!r} cannot be imported: {_one_line(error)}") from error


def attribute(module: ModuleType, name: str, place: str) -> Any:
    """What `name` is in the module.

    Raises:
        GuidedError: it has no such name; the message lists the functions that it has.
    """
    if not name or not hasattr(module, name):
        names = public_names(module)
        raise GuidedError(
            f"{place} has no function {name!r}{nearest(name, names)}; it has {', '.join(names) or 'none'}"
        )
    return getattr(module, name)


def public_names(module: ModuleType) -> list[str]:
    """Names of the functions and classes that the module itself defines, sorted."""
    own = inspect.getmembers(module, lambda o: callable(o) and getattr(o, "__module__", "") == module.__name__)
    return [name for name, _ in own if not name.startswith("_")]


def sha256(path: Path) -> str:
    """The file's digest in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _see(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
