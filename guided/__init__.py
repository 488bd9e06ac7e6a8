"""Reward-guided sampling from pretrained diffusion models, with black-box rewards."""

__all__ = [
    "Codec",
    "Diffusion",
    "FlippedDPO",
    "Gaussian",
    "LearnedValue",
    "Masked",
    "NegativeTraining",
    "Prompting",
    "Run",
    "SelfNPO",
    "attach",
    "fit_value",
    "load",
    "load_value",
    "log_likelihood",
    "merge",
    "models",
    "register_reward",
    "sample",
    "stream",
    "train_negative",
]

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guided.core.codec import Codec
    from guided.core.diffusion import Diffusion
    from guided.core.gaussian import Gaussian
    from guided.core.masked import Masked
    from guided.core.prompting import Prompting
    from guided.fitting.negative.dpo import FlippedDPO
    from guided.fitting.negative.job import NegativeTraining, train_negative
    from guided.fitting.negative.self_npo import SelfNPO
    from guided.fitting.value.fit_value import fit_value
    from guided.loading import load, models
    from guided.metrics.likelihood import log_likelihood
    from guided.negatives.attach import attach
    from guided.negatives.merge import merge
    from guided.runs.engine import Run
    from guided.runs.sample import sample, stream
    from guided.scoring.registry import register_reward
    from guided.values.learned import LearnedValue
    from guided.values.load import load_value

__version__ = "0.1.0"

# Imported when first asked for, so that the command line answers before torch is there.
_HOMES = {
    "Codec": "guided.core.codec",
    "Diffusion": "guided.core.diffusion",
    "FlippedDPO": "guided.fitting.negative.dpo",
    "Gaussian": "guided.core.gaussian",
    "LearnedValue": "guided.values.learned",
    "Masked": "guided.core.masked",
    "NegativeTraining": "guided.fitting.negative.job",
    "Prompting": "guided.core.prompting",
    "Run": "guided.runs.engine",
    "SelfNPO": "guided.fitting.negative.self_npo",
    "attach": "guided.negatives.attach",
    "fit_value": "guided.fitting.value.fit_value",
    "load": "guided.loading",
    "load_value": "guided.values.load",
    "log_likelihood": "guided.metrics.likelihood",
    "merge": "guided.negatives.merge",
    "models": "guided.loading",
    "register_reward": "guided.scoring.registry",
    "sample": "guided.runs.sample",
    "stream": "guided.runs.sample",
    "train_negative": "guided.fitting.negative.job",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'guided' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
