"""Samplers: frozen dataclasses of plain values, called with a model, a value and random streams."""

__all__ = [
    "SVDD",
    "BestOfN",
    "Sampler",
    "Unguided",
    "resolve_sampler",
    "sampler_from_dict",
    "sampler_to_dict",
    "samplers",
]

from guided.samplers.base import Sampler, resolve_sampler, sampler_from_dict, sampler_to_dict, samplers
from guided.samplers.best_of_n import BestOfN
from guided.samplers.svdd import SVDD
from guided.samplers.unguided import Unguided
