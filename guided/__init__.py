"""Reward-guided sampling from pretrained diffusion models, with black-box rewards."""

__all__ = ["Diffusion", "Run", "load", "models", "register_reward", "sample", "stream"]

from guided.model import Diffusion
from guided.models import load, models
from guided.registry import register_reward
from guided.runs import Run, sample, stream

__version__ = "0.1.0"
