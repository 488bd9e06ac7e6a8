"""The dependencies point in one direction, and `import guided` brings no heavy library along."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ["accelerate", "diffusers", "matplotlib", "rdkit", "scipy", "selfies", "tokenizers", "transformers"]

# Each layer, from the ground up, and the layers below that it may import besides itself.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "sessions": set(),
    "settings": set(),
    "names": {"errors"},
    "storage": {"errors"},
    "nets": {"errors"},
    "checkpoints": {"errors", "storage"},
    "core": {"errors", "settings"},
    "adapters": {"errors", "names", "settings", "storage", "nets", "checkpoints", "core"},
    "loading": {"errors", "names", "settings", "storage", "checkpoints", "core", "adapters"},
    "scoring.registry": {"errors"},
    "rewards": {"errors", "settings", "checkpoints", "scoring.registry"},
    "scoring": {"errors", "sessions", "names", "storage", "checkpoints", "core", "scoring.registry", "rewards"},
    "values": {"errors", "names", "settings", "storage", "nets", "checkpoints", "core", "scoring.registry", "scoring"},
    "samplers": {"errors", "core", "values", "metrics"},
    "metrics": {"errors", "core"},
    "negatives": {"errors", "settings", "storage", "checkpoints", "core", "loading"},
    "report": {"errors", "storage", "metrics", "scoring.registry", "scoring", "rewards"},
}
LAYERS["runs"] = {*LAYERS} - {"nets", "checkpoints", "adapters", "rewards"}
LAYERS["distributed"] = {*LAYERS, ""} - {"nets", "checkpoints", "adapters", "rewards"}
for _top in ("fitting", "cli"):
    LAYERS[_top] = {*LAYERS, ""}
LAYERS[""] = set(LAYERS)  # the package itself, which hands out its public names, and __main__
TOP = ("__init__", "__main__", "")
LIBRARIES = {  # besides the standard library; the other layers choose their own
    "errors": set(),
    "sessions": set(),
    "settings": {"torch"},
    "names": set(),
    "storage": {"torch", "safetensors"},
    "nets": {"torch", "einops"},
    "core": {"torch", "einops", "numpy", "triton"},
    "checkpoints": {"torch", "safetensors", "pydantic"},
    "loading": {"torch"},
    "scoring.registry": set(),
    "values": {"torch", "safetensors"},
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
    """The layer of a module: its package's, or its own where it has one."""
    words = module.removeprefix("guided").strip(".").split(".")
    return next((name for n in (2, 1) if (name := ".".join(words[:n])) in LAYERS), "" if words[0] in TOP else "core")


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
    """What `from origin import name` loads: the module of that name in the package if there is one, else `origin`."""
    path = ROOT.joinpath(*origin.split("."), name)
    return f"{origin}.{name}" if path.is_dir() or path.with_suffix(".py").is_file() else origin


def violations(module: str, source: str) -> list[str]:
    own, wrong = layer(module), []
    for name in sorted(imports(module, source)):
        top = name.split(".")[0]
        if top == "guided":
            allowed = layer(name) in LAYERS[own] | {own}
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
        ("guided.values.posterior_mean", "from guided.samplers.svdd import SVDD"),
        ("guided.values.posterior_mean", "from guided import samplers"),
        ("guided.values.posterior_mean", "def f():\n    import guided.rewards"),
        ("guided.values.posterior_mean", "from ..adapters import selfies"),
        ("guided.values.posterior_mean", "from guided.runs.sample import sample"),
        ("guided.values.posterior_mean", "import rdkit"),
        ("guided.new_file_of_the_core", "from guided import sample"),
        ("guided.samplers.svdd", "from guided.adapters.selfies.adapter import load"),
        ("guided.samplers.svdd", "from ..runs import sample"),
        ("guided.samplers.svdd", "import diffusers"),
        ("guided.rewards.molecules.properties", "from guided.values.posterior_mean import PosteriorMean"),
        ("guided.rewards.molecules.properties", "import rewards.molecules"),
        ("guided.adapters.selfies.adapter", "from guided.samplers import SVDD"),
        ("guided.nets.transformer", "from guided.core.diffusion import Diffusion"),
        ("guided.nets.transformer", "import numpy"),
    ],
)
def test_a_wrong_direction_is_seen(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


def test_import_is_light() -> None:
    code = f"import sys, guided; print(*(set({HEAVY}) & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == []


WRONG = [
    "sample rna -r gc -n x",
    "sample rna -r gc --steps 0",
    "sample rna -r gc --dtype float8",
    "sample rna -r gc -M one",
    "sample rna -r gc --guidance nan",
    "sample rna -r gc --prompts nothing.txt",
    "sample rna -r gc --out README.md",
    "fit-value rna -r gc --out x --target median",
    "fit-value rna -r gc --out README.md",
    "npo train rna --out x --batch 0",
    "npo train rna --out README.md",
]


def test_wrong_options_are_told_before_torch_is_imported() -> None:
    """A second, on a fresh machine many."""
    code = f"""if True:
        import sys
        from guided.cli.main import main
        for given in {WRONG!r}:
            sys.argv = ["guided", *given.split()]
            try:
                main()
            except SystemExit as error:
                print(error.code, given if "torch" in sys.modules else "")
    """
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["2"] * len(WRONG), out.stdout
    assert out.stderr.count("error: ") == len(WRONG)
