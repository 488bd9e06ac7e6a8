"""The last part of a pipeline's call, from the step of its loop on: what makes samples of its last latents.

It is read from the source of the pipeline's class, and run on the variables that a call had at a step. So the decoder,
its scaling, the layout of latents and the image processor are the pipeline's own, without its loop.
"""

__all__ = ["Tail"]

import ast
import copy
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from guided.adapters.diffusers.loops.call import PER_PROMPT, Call, quiet_copy
from guided.adapters.diffusers.loops.scheduler import Exchange, Refused, plain, stand_in

#: What samples are by the name that a pipeline's output has for them.
FIELDS = {"images": "images", "image": "images", "frames": "videos", "videos": "videos", "audios": "audio"}


class _Last(Exchange):
    """An exchange whose step gives the last latents."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(None)
        self._x = x

    def swap(self, prediction: Tensor, sample: Tensor) -> Tensor:
        return self._x.to(sample.device, sample.dtype, copy=True)


@dataclass(frozen=True)
class Tail:
    """The last part of a pipeline's call.

    Args:
        pipeline: Of diffusers.
        variables: Those of its call at a step, by name.
        times: The times of its loop.

    Raises:
        Refused: The pipeline's source has no such part.
    """

    pipeline: Any
    variables: Mapping[str, Any]
    times: Tensor
    _function: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [name for name in self.variables if name != "self" and name.isidentifier()]
        space = dict(inspect.unwrap(type(self.pipeline).__call__).__globals__)
        exec(_compiled(type(self.pipeline), names), space)  # the library's own statements
        object.__setattr__(self, "_function", space["_tail"])

    @property
    def modality(self) -> str:
        """What the samples are; "" if that is not known."""
        return next((FIELDS[name] for name in _returned(type(self.pipeline)) if name in FIELDS), "")

    def with_decoder(self, vae: Any) -> "Tail":
        """The same with another decoder."""
        other = quiet_copy(self.pipeline)
        vars(other)["vae"] = vae
        return replace(self, pipeline=other)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Any:
        """What the pipeline makes of last latents, with shape `(n, *event)`: pixels in [0, 1], or sounds."""
        pipeline = quiet_copy(self.pipeline)
        called = vars(self.variables["self"]).items()  # the call has set some attributes, as its guidance
        vars(pipeline).update({name: value for name, value in called if name not in self.pipeline.components})
        vars(pipeline)["scheduler"] = stand_in(self.pipeline.scheduler, _Last(x))
        part, network = Call(self.pipeline).part, copy.copy(Call(self.pipeline).network)
        vars(network)["set_attn_processor"] = _keep  # loops that go on need theirs
        vars(pipeline)[part] = network
        names = [name for name in self.variables if name != "self" and name.isidentifier()]
        values = {name: plain(self.variables[name]) for name in names}
        found = self._function(pipeline, **(values | self._last(values, len(x))))
        named = next((getattr(found, name) for name in FIELDS if hasattr(found, name)), None)
        return found[0] if named is None else named

    def _last(self, values: Mapping[str, Any], n: int) -> dict[str, Any]:
        """The variables that are others at the end: the turn of the loop, the form of samples, and their number."""
        last = {"i": len(self.times) - 1, "t": self.times[-1], "output_type": "pt", "return_dict": True}
        last |= {"batch_size": n, **dict.fromkeys(PER_PROMPT, 1)}
        return {name: value for name, value in last.items() if name in values}


def _keep(processors: Any) -> None:
    """Changes nothing."""


def _source(kind: Any) -> ast.FunctionDef:
    try:
        module = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(kind.__call__))))
    except (OSError, SyntaxError) as error:
        raise Refused("the source of its class is not there, and its last part is read from it") from error
    function = module.body[0]
    assert isinstance(function, ast.FunctionDef)
    return function


def _compiled(kind: Any, names: list[str]) -> CodeType:
    """The function `_tail(self, *names)`, from the step on."""
    body = _after_step(_source(kind))
    arguments = ast.arguments([], [ast.arg(name) for name in ("self", *names)], None, [], [], None, [])
    function = ast.FunctionDef("_tail", arguments, body, [], None, None)
    module = ast.fix_missing_locations(ast.Module([function], []))
    return compile(ast.unparse(module), f"<the last part of {kind.__name__}>", "exec")


def _after_step(function: ast.FunctionDef) -> list[ast.stmt]:
    """The statements from the loop's step on, in their order."""
    path = _path(function)
    loops = [i for i, (node, _) in enumerate(path) if isinstance(node, ast.For | ast.While)]
    if not loops:
        raise Refused("its call has no loop with its scheduler's step")
    inner = loops[-1]
    node, at = path[inner]
    once = ast.For(
        ast.Name("_", ast.Store()), ast.Tuple([ast.Constant(0)], ast.Load()), node.body[at:], [], None
    )  # for its continue
    found: list[ast.stmt] = [once]
    for parent, index in reversed(path[:inner]):
        found += _statements(parent)[index + 1 :]
    return found


def _path(node: Any) -> list[tuple[Any, int]]:
    """The nodes down to the step, each with the number of the statement in it that leads there."""
    for index, statement in reversed([*enumerate(_statements(node))]):
        if _steps(statement):
            return [(node, index), *_path(statement)]
    return []


def _statements(node: Any) -> list[ast.stmt]:
    """The statements in a node; of a condition the branch with the step."""
    if isinstance(node, ast.If) and not any(map(_steps, node.body)):
        return node.orelse
    found: list[ast.stmt] = getattr(node, "body", [])
    return found


def _steps(node: ast.AST) -> bool:
    """Whether there is a scheduler's step in a statement."""
    calls = (part.func for part in ast.walk(node) if isinstance(part, ast.Call))
    return any(
        isinstance(call, ast.Attribute) and call.attr == "step" and "scheduler" in ast.unparse(call.value)
        for call in calls
    )


def _returned(kind: Any) -> list[str]:
    """The names of the fields that a pipeline returns."""
    returns = (node.value for node in ast.walk(_source(kind)) if isinstance(node, ast.Return))
    calls = [value for value in returns if isinstance(value, ast.Call)]
    return [keyword.arg for call in calls for keyword in call.keywords if keyword.arg]
