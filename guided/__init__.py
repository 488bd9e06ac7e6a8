"""Reward-guided sampling from pretrained diffusion models, with black-box rewards."""

__all__ = [
    "Diffusion",
    "LearnedValue",
    "Run",
    "fit_value",
    "load",
    "load_value",
    "models",
    "register_reward",
    "sample",
    "stream",
]

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guided.fitting import fit_value, load_value
    from guided.learned import LearnedValue
    from guided.model import Diffusion
    from guided.models import load, models
    from guided.registry import register_reward
    from guided.runs import Run, sample, stream

__version__ = "0.1.0"

# Imported when first asked for, so that the command line answers before torch is there.
_HOMES = {
    "Diffusion": "guided.model",
    "LearnedValue": "guided.learned",
    "Run": "guided.runs",
    "fit_value": "guided.fitting",
    "load": "guided.models",
    "load_value": "guided.fitting",
    "models": "guided.models",
    "register_reward": "guided.registry",
    "sample": "guided.runs",
    "stream": "guided.runs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'guided' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
