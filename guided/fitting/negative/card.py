"""The description of a negative checkpoint, as Markdown."""

__all__ = ["ENDS", "describe", "describe_loss"]

import json
from collections.abc import Mapping
from typing import Any

ENDS = 50  # the number of first and of last updates whose mean losses are reported


def describe_loss(metrics: Mapping[str, Any]) -> str:
    """The losses at the beginning and at the end of a training."""
    first = min(ENDS, metrics["steps"])
    return f"{metrics['first loss']:.4g} over the first {first} updates, {metrics['last loss']:.4g} over the last"


def describe(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """The `README.md` of a checkpoint, as Markdown."""
    base, method, training = config["base"], config["method"], config["training"]
    hyperparameters = ", ".join(
        f"{name} = {value}" for name, value in method.items() if name != "name" and value is not None
    )
    what = f"LoRA weights of rank {training['lora']}" if training["lora"] else "full weights"
    reward = "" if config["reward"] is None else f"\n- Reward: `{json.dumps(config['reward'])}`"
    prompts = len(config["samples"]["prompts"])
    return f"""# A negative checkpoint of {base["name"]}

{what[0].upper()}{what[1:]}, for the negative side of guidance:
`guided sample {base["name"]} --negative DIR --guidance W`.

- Base: {base["name"]}, layers `{base["network"]["layers"][:16]}`; another base is refused
- Method: {method["name"]}; {hyperparameters}
- Data: {config["data"]}: {training["n"]}, of {prompts or "no"} prompts, {config["samples"]["steps"]} steps{reward}
- Training: {metrics["steps"]} updates of {training["batch"]} rows at a learning rate of {training["lr"]:g}, decay of
  the average {training["ema"]}, seed {training["seed"]}; {metrics["seconds"]} s, and {metrics["seconds of samples"]} s
  for the samples
- Loss: {describe_loss(metrics)}
- Versions: {", ".join(f"{name} {number}" for name, number in metrics["versions"].items())}
"""
