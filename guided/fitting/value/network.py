"""The folder of a value.

config.json         what it was fitted for and how; at the end, how good it is
model.safetensors   the network
rollouts/           a file for each batch of trajectories, and rollouts.json, which says whose they are
training/           the state of a fit under way
"""

__all__ = ["plan_network"]

from collections.abc import Mapping
from typing import Any

from guided.fitting.value.source import Source
from guided.nets.values import build, kind_of
from guided.values.load import OWN, Factory, make_network


def plan_network(network: str | Mapping[str, Any] | Factory | None, source: Source) -> tuple[dict[str, Any], Factory]:
    """The network's entry in the configuration, and what makes it; it is made once, to say early what is wrong.

    Raises:
        ValueError: There is no such kind, or it does not take such rows or arguments.
    """
    shape = {"event": list(source.event), "tokens": source.tokens, "prompts": max(1, len(source.prompts))}
    if callable(network):
        name = f"{network.__module__}:{getattr(network, '__qualname__', type(network).__qualname__)}"
        return {"kind": OWN + name, **shape}, network
    given = network if isinstance(network, Mapping) else {} if network is None else {"kind": network}
    plan = {"kind": kind_of(source.event, source.tokens), **given, **shape}
    make_network(plan, None)
    return plan, build
