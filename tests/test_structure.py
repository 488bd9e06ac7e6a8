"""The shape of the code: no file imports itself through others, functions and parameter lists stay short."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_imports import imports, modules

MADE = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm", "tensor", "zeros"}
NETWORKS = ("guided.nets", "guided.rewards")  # what is made there is made with settings of its own
MEDIAN, NINETIETH, LONGEST = 6, 16, 40  # lines of code of a function
PARAMETERS = 12
Function = ast.FunctionDef | ast.AsyncFunctionDef


def graph() -> dict[str, set[str]]:
    """The files of ours that each file imports anywhere: inside functions and under `TYPE_CHECKING` too."""
    files = modules()
    names = {name.removesuffix(".__init__"): name for name in files}
    return {
        module: {names[found] for found in imports(module, path.read_text()) if found in names} - {module}
        for module, path in files.items()
        if module not in ("guided.__init__", "guided.__main__")  # which hand out public names
    }


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that reach one another, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found


def test_no_circles() -> None:
    assert circles(graph()) == []


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def functions() -> Iterator[tuple[str, Function]]:
    """Every function of the package, nested ones apart from the one around them."""
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                yield f"{module}:{node.name}", node


def lines(function: Function) -> int:
    """Lines of code: neither the signature, the docstring, blank lines, comments nor nested functions."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    nested = [node for node in ast.walk(function) if isinstance(node, Function) and node is not function]
    inside = {line for node in nested for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    spans = {line for node in body for part in ast.walk(node) for line in _span(part)}
    return len(spans - inside)


def _span(node: ast.AST) -> range:
    """The lines of a statement or expression; of a compound statement those of its parts."""
    if not hasattr(node, "lineno"):
        return range(0)
    if hasattr(node, "body") and isinstance(node.body, list):
        return range(node.lineno, node.lineno + 1)
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def test_functions_are_short() -> None:
    sizes = {name: lines(node) for name, node in functions()}
    assert {name: size for name, size in sizes.items() if size > LONGEST} == {}
    assert statistics.median(sizes.values()) <= MEDIAN
    assert statistics.quantiles(sizes.values(), n=10)[-1] <= NINETIETH


def width(function: Function) -> int:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in every if argument.arg not in ("self", "cls")])


def test_parameter_lists_are_short() -> None:
    assert {name: width(node) for name, node in functions() if width(node) > PARAMETERS} == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n    return 1", 1),
        ('def f():\n    """Text.\n\n    More.\n    """\n    # why\n    x = 1\n\n    return (\n        x\n    )', 4),
        ("def f():\n    def g():\n        return 1\n    return g", 1),
        ("def f(x):\n    for i in x:\n        if i:\n            y = i\n    return y", 4),
    ],
)
def test_lines_of_code_are_counted(source: str, expected: int) -> None:
    [function] = [node for node in ast.parse(source).body if isinstance(node, Function)]
    assert lines(function) == expected


def unplaced(source: str) -> list[str]:
    """Calls of torch that make a tensor, or a generator, wherever the default device is."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    wrong = []
    for call in calls:
        name = ast.unparse(call.func)
        given = {keyword.arg for keyword in call.keywords}
        made = name.removeprefix("torch.") in MADE and not given & {"device", "out"}
        if name.startswith("torch.") and (made or (name == "torch.Generator" and not call.args and not given)):
            wrong.append(ast.unparse(call))
    return wrong


@pytest.mark.parametrize(("module", "path"), modules().items(), ids=modules())
def test_tensors_do_not_follow_the_default_device(module: str, path: Path) -> None:
    """A notebook may have called torch.set_default_device."""
    if not module.startswith(NETWORKS):
        assert unplaced(path.read_text()) == []


@pytest.mark.parametrize("call", ["torch.zeros(2)", "torch.tensor(x, dtype=torch.long)", "torch.Generator()"])
def test_a_tensor_without_a_device_is_found(call: str) -> None:
    assert unplaced(f"y = {call}") == [call]
    assert unplaced("y = torch.zeros(2, device=x.device), torch.Generator('cpu'), torch.zeros_like(x)") == []
