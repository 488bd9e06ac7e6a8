"""The dependencies point in one direction, and `import guided` brings no heavy library along."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ["accelerate", "diffusers", "matplotlib", "rdkit", "scipy", "selfies", "tokenizers", "transformers"]

# The files of guided/ that may import everything. Every other one is core, a new one too.
RUN_LAYER = {
    "__init__",
    "__main__",
    "cli",
    "fitting",
    "models",
    "npo",
    "objective",
    "pictures",
    "report",
    "runfolder",
    "runs",
}
MAY_IMPORT = {
    "rewards": {"rewards"},
    "nets": {"nets"},
    "core": {"core"},
    "checkpoints": {"core", "checkpoints"},
    "samplers": {"core", "samplers"},
    "adapters": {"core", "nets", "checkpoints", "adapters"},
    "run": {"rewards", "nets", "core", "checkpoints", "samplers", "adapters", "run"},
}
LIBRARIES = {  # besides the standard library; rewards, adapters and the run layer choose their own
    "nets": {"torch", "einops"},
    "core": {"torch", "einops", "numpy"},
    "checkpoints": {"torch", "safetensors"},
    "samplers": {"torch", "einops"},
}


def modules() -> dict[str, Path]:
    """Every module of ours under its import name; the links of guided/ are followed by name."""
    files = {}
    for folder, name in [("guided", "guided"), ("rewards", "guided.rewards"), ("samplers", "guided.samplers")]:
        for path in sorted((ROOT / folder).rglob("*.py")):
            files[".".join([name, *path.relative_to(ROOT / folder).with_suffix("").parts])] = path
    return files


def layer(module: str) -> str:
    name = module.removeprefix("guided").strip(".").split(".")[0] or "__init__"
    if name in MAY_IMPORT:
        return name
    return "run" if name in RUN_LAYER else "core"


def imports(module: str, source: str) -> set[str]:
    """The absolute names that a source imports anywhere, inside functions and `TYPE_CHECKING` too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*parent, *([node.module] if node.module else [])])
            names |= {_module(origin, alias.name) for alias in node.names}
    return names


def _module(origin: str, name: str) -> str:
    """What `from origin import name` loads: in `from guided import samplers` the package that is named last."""
    path = ROOT / "guided" / name
    return f"guided.{name}" if origin == "guided" and (path.is_dir() or path.with_suffix(".py").is_file()) else origin


def violations(module: str, source: str) -> list[str]:
    own, wrong = layer(module), []
    for name in sorted(imports(module, source)):
        top = name.split(".")[0]
        if top == "guided":
            light = own == "rewards" and name in ("guided.registry", "guided.errors")
            allowed = layer(name) in MAY_IMPORT[own] or light
        else:
            allowed = top in sys.stdlib_module_names or own not in LIBRARIES or top in LIBRARIES[own]
        if not allowed or top in ("rewards", "samplers"):
            wrong.append(f"{module} ({own}) imports {name}")
    return wrong


@pytest.mark.parametrize(("module", "path"), modules().items(), ids=modules())
def test_dependencies_point_in_one_direction(module: str, path: Path) -> None:
    assert violations(module, path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("guided.value", "from guided.samplers.svdd import SVDD"),
        ("guided.value", "from guided import samplers"),
        ("guided.value", "def f():\n    import guided.rewards"),
        ("guided.value", "from .adapters import molecules"),
        ("guided.value", "from guided.runs import sample"),
        ("guided.value", "import rdkit"),
        ("guided.new_file_of_the_core", "from guided import sample"),
        ("guided.samplers.svdd", "from guided.adapters.molecules import load"),
        ("guided.samplers.svdd", "from ..runs import sample"),
        ("guided.samplers.svdd", "import diffusers"),
        ("guided.rewards.molecules", "from guided.value import PosteriorMean"),
        ("guided.rewards.molecules", "import rewards.combine"),
        ("guided.adapters.molecules", "from guided.samplers import SVDD"),
        ("guided.nets.transformer", "from guided.model import Diffusion"),
        ("guided.nets.transformer", "import numpy"),
    ],
)
def test_a_wrong_direction_is_seen(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


def test_import_is_light() -> None:
    code = f"import sys, guided; print(*(set({HEAVY}) & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
