"""The index of a pipeline, checked before any part of it is loaded: a folder may come from anyone.

Parts must be networks, tokenizers and schedulers of diffusers and transformers. Older releases of
diffusers import a module that lies beside a part if the index names it; here that is always refused.
"""

__all__ = ["INDEX", "check_folder", "check_index"]

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guided.adapters.diffusers.families import FAMILIES
from guided.adapters.diffusers.parts import LIBRARIES, check_parts
from guided.adapters.diffusers.text import REFUSED
from guided.checkpoints import read_object
from guided.errors import GuidedError, nearest, shown

INDEX = "model_index.json"
QUOTE = "'"


def check_folder(folder: Path) -> None:
    """Checks a pipeline's folder early.

    Raises:
        GuidedError: The index is not JSON, or names an unknown class, a missing part, or code.
    """
    try:
        index = read_object(folder / INDEX)
    except GuidedError as error:
        raise GuidedError(f"{folder / INDEX} is not the index of a pipeline ({error})") from error
    parts = check_index(index, str(folder))
    for part, (library, name) in parts.items():
        if not (folder / part).is_dir() or not any((folder / part).iterdir()):
            raise GuidedError(f"{folder} has no folder {part!r}, which its {INDEX} names ({name})")
        if (folder / part / f"{library}.py").exists():
            raise GuidedError(f"{folder / part} contains code, {library}.py, which is not run; remove it")
    check_parts(folder, parts)


def check_index(index: Mapping[str, Any], place: str) -> dict[str, tuple[str, str]]:
    """The parts that an index names, each by its library and class.

    Raises:
        GuidedError: The class of the pipeline is unknown or cannot be a model, or a part is not of diffusers or
            transformers.
    """
    name = index.get("_class_name")
    if isinstance(name, list):
        raise GuidedError(f"{place} is a pipeline with code of its own ({shown(name)}), which is not run; {_known()}")
    if isinstance(name, str) and name in REFUSED:
        raise GuidedError(f"{place} holds a {name}, which cannot be a model: {REFUSED[name]}")
    if not isinstance(name, str) or not _is_pipeline(name):
        hint = nearest(name, FAMILIES) if isinstance(name, str) else ""
        no_index = f"is not the index of a pipeline: _class_name is {shown(name)}"
        what = f"holds a {name}" if isinstance(name, str) else no_index
        raise GuidedError(f"{place} {what}{hint}; {_known()}")
    parts = {}
    for part, source in index.items():
        if part.startswith("_") or not isinstance(source, list) or source[:1] == [None]:
            continue
        if len(source) != 2 or not all(isinstance(text, str) and text.isidentifier() for text in source):
            raise GuidedError(f"{place}: {INDEX} has {part} {shown(source)}; it must be a library and a class of it")
        _check_part(part, source[0], source[1], place)
        parts[part] = (source[0], source[1])
    return parts


def _check_part(part: str, library: str, name: str, place: str) -> None:
    pipelines: Any = importlib.import_module("diffusers.pipelines")
    ours = importlib.import_module(library) if library in LIBRARIES else getattr(pipelines, library, None)
    module = str(getattr(ours, "__name__", ""))
    if not part.isidentifier() or module.split(".")[0] not in LIBRARIES:
        raise GuidedError(
            f"cannot load the pipeline {place!r}: its {part!r} is {name} of {library!r}; "
            "only parts of diffusers and transformers are loaded, not code in a folder"
        )
    if not isinstance(getattr(ours, name, None), type):
        raise GuidedError(f"cannot load the pipeline {place!r}: its {part!r} is {name}, which {module} does not have")


def _is_pipeline(name: str) -> bool:
    """Whether diffusers has a pipeline of this name."""
    if name in FAMILIES:
        return True
    library: Any = importlib.import_module("diffusers")
    try:
        kind = getattr(library, name, None)
    except (ImportError, RuntimeError):  # of a part that is not installed
        return False
    return isinstance(kind, type) and issubclass(kind, library.DiffusionPipeline)


def _known() -> str:
    return f"it is one of {', '.join(sorted(FAMILIES))}, or another pipeline of diffusers"
