"""The network of a value. The folder of a value holds:

config.json         all that the value depends on; at the end also its metrics
model.safetensors   the network
rollouts/           a file for each batch of trajectories, and rollouts.json, with all that they depend on
training/           the state of an unfinished fit
"""

__all__ = ["plan_network"]

from collections.abc import Mapping
from typing import Any

from guided.fitting.value.source import Source
from guided.nets.values import build, kind_of
from guided.values.load import OWN, Factory, make_network


def plan_network(network: str | Mapping[str, Any] | Factory | None, source: Source) -> tuple[dict[str, Any], Factory]:
    """The network's entry in the configuration, and the function that makes it. It is made once, to find errors early.

    Raises:
        GuidedError: There is no such network, or it does not take such rows or arguments.
    """
    shape = {"event": list(source.event), "tokens": source.tokens, "prompts": max(1, len(source.prompts))}
    if callable(network):
        name = f"{network.__module__}:{getattr(network, '__qualname__', type(network).__qualname__)}"
        return {"kind": OWN + name, **shape}, network
    given = network if isinstance(network, Mapping) else {} if network is None else {"kind": network}
    plan = {"kind": kind_of(source.event, source.tokens, source.graphs), **given, **shape}
    make_network(plan, None)
    return plan, build
