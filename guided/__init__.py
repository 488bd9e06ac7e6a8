"""Reward-guided sampling from pretrained diffusion models, with black-box rewards."""

__all__ = [
    "Codec",
    "Diffusion",
    "FlippedDPO",
    "Gaussian",
    "LearnedValue",
    "Masked",
    "NegativeTraining",
    "Progress",
    "ProgressBar",
    "Prompting",
    "Run",
    "RunConfig",
    "SelfNPO",
    "attach",
    "check_folder",
    "convert",
    "correlation",
    "fit_value",
    "kmer_frequencies",
    "load",
    "load_value",
    "log_likelihood",
    "merge",
    "models",
    "open_run",
    "read_image",
    "read_prompts",
    "register_reward",
    "resolve_reward",
    "sample",
    "stream",
    "train_negative",
]

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guided.cli.console import ProgressBar
    from guided.core.codec import Codec
    from guided.core.diffusion import Diffusion
    from guided.core.gaussian import Gaussian
    from guided.core.masked import Masked
    from guided.core.monitor import Progress
    from guided.core.prompting import Prompting
    from guided.fitting.negative.config import NegativeTraining
    from guided.fitting.negative.dpo import FlippedDPO
    from guided.fitting.negative.job import train_negative
    from guided.fitting.negative.self_npo import SelfNPO
    from guided.fitting.value.fit_value import fit_value
    from guided.loading import convert, load, models
    from guided.metrics.kmers import correlation, kmer_frequencies
    from guided.metrics.likelihood import log_likelihood
    from guided.negatives.attach import attach
    from guided.negatives.merge import merge
    from guided.runs.config import RunConfig
    from guided.runs.editing import read_image
    from guided.runs.engine import Run
    from guided.runs.opened import open_run
    from guided.runs.paths import check_folder, read_prompts
    from guided.runs.sample import sample, stream
    from guided.scoring.objective import resolve_reward
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
    "Prompting": "guided.core.prompting",
    "NegativeTraining": "guided.fitting.negative.config",
    "Progress": "guided.core.monitor",
    "ProgressBar": "guided.cli.console",
    "Run": "guided.runs.engine",
    "RunConfig": "guided.runs.config",
    "SelfNPO": "guided.fitting.negative.self_npo",
    "attach": "guided.negatives.attach",
    "check_folder": "guided.runs.paths",
    "convert": "guided.loading",
    "correlation": "guided.metrics.kmers",
    "fit_value": "guided.fitting.value.fit_value",
    "kmer_frequencies": "guided.metrics.kmers",
    "load": "guided.loading",
    "load_value": "guided.values.load",
    "log_likelihood": "guided.metrics.likelihood",
    "merge": "guided.negatives.merge",
    "models": "guided.loading",
    "open_run": "guided.runs.opened",
    "read_image": "guided.runs.editing",
    "read_prompts": "guided.runs.paths",
    "register_reward": "guided.scoring.registry",
    "resolve_reward": "guided.scoring.objective",
    "sample": "guided.runs.sample",
    "stream": "guided.runs.sample",
    "train_negative": "guided.fitting.negative.job",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'guided' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
