"""Learned values from their folders."""

__all__ = ["OWN", "Factory", "load_value", "make_network"]

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from guided.checkpoints import read_config
from guided.checkpoints.schemas import ValueConfig, validated
from guided.checkpoints.weights import load_network
from guided.errors import GuidedError, shown
from guided.nets.values import build
from guided.scoring.objective import resolve_reward
from guided.settings import torch_defaults
from guided.values.learned import LearnedValue

#: Makes a network from `event`, the shape of a row, `tokens`, their number with the mask (None for real numbers), and
#: `prompts`, their number. The network maps rows `(n, *event)`, times `(n,)` and numbers of prompts `(n,)` to `(n,)`.
Factory: TypeAlias = Callable[..., nn.Module]


OWN = "own:"  # the prefix of `kind` for networks made by a user's function


def load_value(
    path: str | Path, *, reward: Any = None, network: Factory | None = None, any_reward: bool = False
) -> LearnedValue:
    """The value in a folder that :func:`guided.fit_value` wrote.

    Args:
        path: The folder.
        reward: The reward of the last step, for use outside of `guided.sample`, which sets that of the run.
        network: The function that made its network, if there was one.
        any_reward: Whether it may guide towards another reward than it was fitted for.

    Raises:
        GuidedError: It does not hold a finished value, or the weights do not fit.
    """
    folder = Path(path)
    if not os.path.isdir(folder):  # unlike Path's, false for a name that no file can have
        raise GuidedError(f"there is no folder {shown(str(path))}; a value is a folder that `guided fit-value` wrote")
    if not (folder / "config.json").is_file():
        raise GuidedError(f"{str(path)!r} is not the folder of a value, as `guided fit-value` writes")
    config = read_config(folder)
    if config["kind"] != "value":
        raise GuidedError(f"{str(path)!r} holds a model of kind {config['kind']!r}, not a value")
    if "metrics" not in config:
        raise GuidedError(f"the value in {str(path)!r} is not finished; give the same command again")
    validated(ValueConfig, config, folder / "config.json")
    plan = config["network"]
    own = plan["kind"].startswith(OWN)  # the user's code may not work on the meta device
    with torch_defaults():
        net, identity = load_network(lambda: make_network(plan, network), folder / "model.safetensors", sketch=not own)
    objective = None if reward is None else resolve_reward(reward)
    return LearnedValue(net.eval().requires_grad_(False), config, objective, identity, any_reward)


def make_network(plan: Mapping[str, Any], factory: Factory | None) -> nn.Module:
    """The network of a configuration."""
    kind, event = plan["kind"], tuple(plan["event"])
    rest = {name: entry for name, entry in plan.items() if name not in ("kind", "event")}
    if not kind.startswith(OWN):
        return build(kind, event, **rest)
    if factory is None:
        raise GuidedError(f"the network of this value was made by {kind.removeprefix(OWN)}; give it as network=")
    return factory(event=event, **rest)
