"""The folder of a value.

config.json         what it was fitted for and how; at the end, how good it is
model.safetensors   the network
rollouts/           a file for each batch of trajectories, and rollouts.json, which says whose they are
training.pt         the state of a fit under way
"""

__all__ = [
    "Factory",
    "claim",
    "load_value",
    "make_network",
    "plan_network",
    "write_json",
    "write_network",
    "write_tensors",
]

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from safetensors.torch import save_file
from torch import Tensor, nn

from guided.checkpoints import read_config, read_weights
from guided.errors import GuidedError
from guided.files import whole, write_whole
from guided.fitting.source import Source
from guided.learned import LearnedValue
from guided.learned.value import plain
from guided.nets.values import build, kind_of
from guided.objective import resolve_reward
from guided.runfolder import difference, read_json

#: Makes a network from `event`, the shape of a row, `tokens`, their number with the mask (None: continuous numbers),
#: and `prompts`, their number. It maps rows `(n, *event)`, times `(n,)` and numbers of prompts `(n,)` to `(n,)`.
Factory: TypeAlias = Callable[..., nn.Module]
OWN = "own:"  # the kind of a network that a function of the user's made
RESULTS = ("shift", "scale", "metrics")


def load_value(
    path: str | Path, *, reward: Any = None, network: Factory | None = None, any_reward: bool = False
) -> LearnedValue:
    """The value in a folder that :func:`guided.fit_value` wrote.

    Arguments:
        path: The folder.
        reward: The reward of the last step, for use outside of `guided.sample`, which gives it that of the run.
        network: What made its network, if it was made by a function.
        any_reward: Whether it may guide towards another reward than it was fitted for.

    Raises:
        ValueError: It holds no finished value, or the weights do not fit.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise GuidedError(f"there is no folder {str(path)!r}; a value is a folder that `guided fit-value` wrote")
    config = read_config(folder)
    if config["kind"] != "value":
        raise GuidedError(f"{str(path)!r} holds a model of kind {config['kind']!r}, not a value")
    if "metrics" not in config:
        raise GuidedError(f"the value in {str(path)!r} is not finished; give the same command again")
    try:
        net = make_network(config["network"], network)
        complete = {name: config[name] for name in ("model", "reward", "target", "alpha", "times", "shift", "scale")}
    except (KeyError, TypeError) as error:
        raise GuidedError(f"{str(folder / 'config.json')!r} has no usable entry {error}") from error
    identity = read_weights(net, folder / "model.safetensors")
    objective = None if reward is None else resolve_reward(reward)
    return LearnedValue(net.eval().requires_grad_(False), {**config, **complete}, objective, identity, any_reward)


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


def make_network(plan: Mapping[str, Any], factory: Factory | None) -> nn.Module:
    """The network of a configuration."""
    kind, event = plan["kind"], tuple(plan["event"])
    rest = {name: entry for name, entry in plan.items() if name not in ("kind", "event")}
    if not kind.startswith(OWN):
        return build(kind, event, **rest)
    if factory is None:
        raise GuidedError(f"the network of this value was made by {kind.removeprefix(OWN)}; give it as network=")
    return factory(event=event, **rest)


def claim(path: Path, name: str, config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Makes a folder with a JSON file that says what is in it, or finds it there.

    Returns:
        What the file says: the configuration, with the results if it has any.

    Raises:
        GuidedError: The folder is there for another configuration.
    """
    path.mkdir(parents=True, exist_ok=True)
    file, wanted = path / name, plain(config)
    if not file.exists():
        if (path / "run.json").exists():
            raise GuidedError(f"{str(path)!r} holds a run of samples; use another folder")
        write_json(file, wanted)
        return dict(wanted)
    found = read_json(file)
    old = {key: entry for key, entry in found.items() if key not in RESULTS}
    if old != wanted:
        key, was, now = difference(old, wanted)
        raise GuidedError(f"{str(path)!r} holds {what}: {key} is {was} there and {now} here; use another folder")
    return found


def write_json(file: Path, config: Mapping[str, Any]) -> None:
    """Writes a JSON file whole."""
    write_whole(file, json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_network(file: Path, net: nn.Module) -> None:
    """Writes the weights whole."""
    write_tensors(file, net.state_dict())


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors whole, as safetensors, in the precision that they have."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole(file) as part:
        save_file(ready, part, metadata=metadata)
