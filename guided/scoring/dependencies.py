"""What a reward's scores depend on: the text of its function, local modules that it imports, files that it is given.

Local is what is neither of the standard library nor installed (site-packages), nor of this package: their versions are
recorded with a run. What cannot be known from the outside, the data that a closure or an object holds, is said so.
"""

__all__ = ["Known", "imported_modules", "is_library", "known_of", "module_files", "path_digest"]

import ast
import builtins
import inspect
import site
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from tokenize import TokenError
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from guided.errors import GuidedError
from guided.storage import digest, digest_of

MOST = 10_000  # files of a folder, and modules
_FROZEN = (bool, int, float, complex, str, bytes, type(None))


class Opaque(Exception):
    """Something on which scores depend cannot be told apart from another of its kind."""


@dataclass
class Known:
    """What a function depends on.

    Attributes:
        texts: source texts and plain values.
        modules: digests of the files of local modules, by their names.
        opaque: why not all of it is known, None if it is.
    """

    texts: list[str] = field(default_factory=list)
    modules: dict[str, str] = field(default_factory=dict)
    opaque: str | None = None

    @property
    def source(self) -> str:
        """The SHA-256 digest of the texts."""
        return digest_of("\n".join(self.texts).encode("utf-8", "replace"))


def known_of(function: Any, module: str = "__main__") -> Known:
    """What a function of Python depends on, as far as it can be known.

    Args:
        function: the function, or an object that can be called.
        module: where it is found by name: what a module makes is known by the module.
    """
    known = Known()
    try:
        _add(function, known, set())
    except Opaque as error:
        known.opaque = str(error) if module == "__main__" else None
    if module != "__main__":
        _add_module(sys.modules.get(module), known)
    return known


def path_digest(path: Path) -> str | None:
    """The digest of a file, or of all files of a folder with their names; None where there is neither.

    Raises:
        GuidedError: it cannot be read, or the folder has too many files.
    """
    try:
        if path.is_file():
            return digest(path)
        if not path.is_dir():
            return None
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
        if len(files) > MOST:
            raise GuidedError(f"folder {str(path)!r} has more than {MOST:,} files; name the one that is meant")
        lines = [f"{file.relative_to(path).as_posix()} {digest(file)}" for file in files]
        return digest_of("\n".join(lines).encode("utf-8", "surrogateescape"))
    except (OSError, ValueError) as error:
        if isinstance(error, GuidedError):
            raise
        if isinstance(error, PermissionError):
            raise GuidedError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        return None  # a text that is too long for a path, or has a null in it


def imported_modules(path: Path) -> dict[str, str]:
    """Digests of the local modules that a file of Python imports, and of those that they import, by name."""
    return {name: digest(file) for name, file in sorted(module_files(path).items())}


def module_files(path: Path) -> dict[str, Path]:
    """The files of the local modules that a file of Python imports, and of those that they import, by name."""
    found: dict[str, Path] = {}
    seen, waiting = {path.resolve()}, [path.resolve()]
    while waiting and len(found) < MOST:
        for name, file in _imports(waiting.pop()):
            if file not in seen:
                seen.add(file)
                waiting.append(file)
                found[name] = file
    return found


def is_library(path: Path) -> bool:
    """Whether a file is of the standard library, installed, or of this package."""
    return any(path.resolve().is_relative_to(folder) for folder in _libraries())


@lru_cache(maxsize=1)
def _libraries() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    own = Path(__file__).resolve().parents[1]
    linked = [(own / name).resolve() for name in ("rewards", "samplers")]
    folders = [sysconfig.get_path(name) for name in names] + [*site.getsitepackages(), site.getusersitepackages()]
    return (own, *linked, *(Path(folder).resolve() for folder in folders))


def _imports(file: Path) -> Iterator[tuple[str, Path]]:
    """Names and files of the local modules that a file imports itself."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in nodes:
        near = None
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = [node.module] if node.module else []
            names = [*start, *(".".join([*start, alias.name]) for alias in node.names)]
            near = file.parents[node.level - 1] if 0 < node.level <= len(file.parents) else None
        else:
            continue
        parts = {".".join(words[: i + 1]) for name in names for words in [name.split(".")] for i in range(len(words))}
        found = ((part, _find(part.split("."), near)) for part in sorted(parts))
        yield from ((part, other) for part, other in found if other is not None)


def _find(words: list[str], near: Path | None) -> Path | None:
    """The file of a module, as the import path has it, or near a folder; None for one of a library."""
    if near is None:
        found = _origin(words[0])
        if found is None or len(words) == 1:
            return found
        near, words = found.parent, words[1:]
        if found.name != "__init__.py":
            return None
    place = near.joinpath(*words)
    files = (place / "__init__.py", place.parent / f"{place.name}.py")
    return next((file.resolve() for file in files if file.is_file() and not is_library(file)), None)


def _origin(name: str) -> Path | None:
    try:  # not importlib's find_spec, which would answer with what is imported already
        finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((found for finder in finders if (found := finder.find_spec(name, None))), None)
    except Exception:
        spec = None
    origin = spec.origin if spec is not None else getattr(sys.modules.get(name), "__file__", None)
    file = Path(origin) if origin and origin.endswith(".py") else None
    return file.resolve() if file is not None and file.is_file() and not is_library(file) else None


def _add(value: Any, known: Known, seen: set[int], what: str = "it") -> None:
    """Adds what a value depends on. Raises Opaque where that cannot be known."""
    if isinstance(value, _FROZEN):
        known.texts.append(repr(value))
    elif isinstance(value, tuple | frozenset):
        for part in sorted(value, key=repr) if isinstance(value, frozenset) else value:
            _add(part, known, seen, what)
    elif isinstance(value, ModuleType):
        _add_module(value, known)
    elif isinstance(value, partial):
        for part in (value.func, *value.args, *value.keywords, *value.keywords.values()):
            _add(part, known, seen, what)
    elif isinstance(value, FunctionType):
        if id(value) not in seen:
            seen.add(id(value))
            _add_function(value, known, seen)
    elif isinstance(value, type | BuiltinFunctionType):
        _add_named(value, known)
    else:
        raise Opaque(f"{what} is an object of {type(value).__name__}, whose state is not known")


def _add_function(function: FunctionType, known: Known, seen: set[int]) -> None:
    module = sys.modules.get(function.__module__)
    path = _file_of(module)
    if path is not None and is_library(path):
        known.texts.append(f"{function.__module__}.{function.__qualname__}")
        return
    named = function.__name__ != "<lambda>"  # whose source is all of its statement
    known.texts.append((_source(function) if named else None) or _code(function.__code__))
    _add(function.__defaults__ or (), known, seen, "a default value")
    for name, default in (function.__kwdefaults__ or {}).items():
        _add(default, known, seen, f"the default of {name!r}")
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            _add(cell.cell_contents, known, seen, f"{name!r}, which it holds,")
        except ValueError:  # not yet assigned
            continue
    if path is not None and function.__module__ != "__main__":
        _add_module(module, known)
        return
    for name in sorted(_names(function.__code__)):  # a notebook's or a script's: the rest of it does not matter
        if name in function.__globals__:
            _add(function.__globals__[name], known, seen, f"{name!r}, which it uses,")


def _add_module(module: ModuleType | None, known: Known) -> None:
    path = _file_of(module)
    if module is not None and path is not None and not is_library(path):
        known.modules[module.__name__] = digest(path)
        known.modules |= imported_modules(path)


def _add_named(value: Any, known: Known) -> None:
    """A class or a function of C."""
    known.texts.append(f"{value.__module__}.{value.__qualname__}")
    path = _file_of(sys.modules.get(value.__module__ or ""))
    local = value.__module__ == "__main__" or (path is not None and not is_library(path))
    if isinstance(value, type) and local and not hasattr(builtins, value.__name__):
        known.texts.append(_source(value) or "")


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if file and str(file).endswith(".py") and Path(file).is_file() else None


def _source(value: Any) -> str | None:
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError, SyntaxError, IndexError, TokenError):  # typed at a prompt, or made by a program
        return None


def _code(code: CodeType) -> str:
    """Bytecode as text, for functions whose source is not to be had."""
    constants = [_code(part) if isinstance(part, CodeType) else repr(part) for part in code.co_consts]
    return f"{sys.version_info[:2]} {code.co_code.hex()} {code.co_names} {constants}"


def _names(code: CodeType) -> set[str]:
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return {*code.co_names}.union(*map(_names, inner))
