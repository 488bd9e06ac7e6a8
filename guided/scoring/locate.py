"""A Python object by the place where it stands: `path/file.py:name` or `package.module:name`."""

__all__ = ["attribute", "load_file", "load_module", "one_line", "public_names"]

import atexit
import hashlib
import importlib
import inspect
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from guided.errors import GuidedError, nearest
from guided.scoring.dependencies import is_library, module_files
from guided.scoring.failures import printable
from guided.storage import digest

_CHECKOUT = Path(__file__).resolve().parents[2]
_SHIM = """\
# The processes that a reward starts (multiprocessing's spawn) import its file by this name.
__file__ = {path!r}
with open(__file__, "rb") as _file:
    exec(compile(_file.read(), __file__, "exec"))
"""
_ABOVE = "GUIDED_MODULES"  # the environment's name for the folder of the process that started this one
_added: list[str] = []  # folders that were put on the import path here
_loaded: dict[str, str] = {}  # digests of local modules when they were imported, by their names


def load_file(path: Path) -> ModuleType:
    """Runs a Python file as a module that other processes can import, too; it sees the modules of its folder.

    Raises:
        GuidedError: there is no such Python file, or it fails.
    """
    if not path.is_file() or path.suffix != ".py":
        raise GuidedError(f"there is no Python file {str(path)!r}")
    path = path.resolve()
    name = f"{path.stem}_{hashlib.sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
    (_shims() / f"{name}.py").write_text(_SHIM.format(path=str(path)), encoding="utf-8", errors="surrogateescape")
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    _see(path.parent)
    _renew(module_files(path))
    try:
        with _fresh():
            exec(compile(path.read_bytes(), module.__file__, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise GuidedError(f"file {str(path)!r} fails: {one_line(error)}") from error
    return module


def load_module(name: str) -> ModuleType:
    """Imports a module; the current folder is searched after what is installed.

    Raises:
        GuidedError: it cannot be imported.
    """
    _see(Path.cwd())
    try:
        with _fresh():
            module = importlib.import_module(name)
            file = getattr(module, "__file__", None)
            if file is None or not file.endswith(".py") or is_library(Path(file)):
                return module
            _renew({name: Path(file).resolve(), **module_files(Path(file))})
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise GuidedError(f"module {name!r} cannot be imported: {one_line(error)}") from error


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


def one_line(error: BaseException) -> str:
    """An error's type and message on one line."""
    return f"{type(error).__name__}: {printable(str(error))}"


def _see(folder: Path) -> None:
    """Puts a folder on the import path: after libraries, before the folders of other rewards and our own checkout."""
    text = str(folder)
    if text in _added:
        _added.remove(text)
        sys.path[:] = [entry for entry in sys.path if entry != text]
    libraries = [i for i, entry in enumerate(sys.path) if entry and is_library(Path(entry))]
    behind = range(max(libraries, default=-1) + 1, len(sys.path))
    place = next((i for i in behind if sys.path[i] in _added or _is_checkout(sys.path[i])), len(sys.path))
    if text not in sys.path[:place]:
        sys.path.insert(place, text)
        _added.insert(0, text)
    if _neighbours not in sys.meta_path:
        sys.meta_path.insert(0, _neighbours)
    importlib.invalidate_caches()


def _is_checkout(entry: str) -> bool:
    return Path(entry or ".").resolve() == _CHECKOUT and (_CHECKOUT / "pyproject.toml").is_file()


class _Neighbours(MetaPathFinder):
    """Finds a neighbour of a reward file that has the name of a folder of our checkout, such as `rewards` or `tests`,
    where the checkout is on the import path before libraries (PYTHONPATH, or the current folder).
    """

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The neighbour, None where the import path has another module of that name, or none."""
        if path is not None or name == "guided" or not (_CHECKOUT / "pyproject.toml").is_file():
            return None
        if not ((_CHECKOUT / name).is_dir() or (_CHECKOUT / f"{name}.py").is_file()):
            return None
        return PathFinder.find_spec(name, _added)


_neighbours = _Neighbours()


def _renew(modules: dict[str, Path]) -> None:
    """Forgets local modules if one of them was imported from another file of that name, or before it changed."""
    now = {name: digest(file) for name, file in modules.items()}
    loaded = {name: getattr(sys.modules.get(name), "__file__", None) for name in modules}
    if any(
        file and (Path(file).resolve() != modules[name] or _loaded.get(name, now[name]) != now[name])
        for name, file in loaded.items()
    ):
        for name in modules:
            sys.modules.pop(name, None)
    _loaded.update(now)


@contextmanager
def _fresh() -> Iterator[None]:
    """Leaves no bytecode behind: its cache takes a file that changed within a second for the old one."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@lru_cache(maxsize=1)
def _shims() -> Path:
    """A folder of this process on the import path, for the names under which files are imported.

    That of a process that this one starts is in it, so that it goes with it even if that process is killed.
    """
    above = os.environ.get(_ABOVE, "")
    folder = Path(tempfile.mkdtemp(prefix="guided-", dir=above if os.path.isdir(above) else None))
    os.environ[_ABOVE] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sys.path.append(str(folder))
    return folder
