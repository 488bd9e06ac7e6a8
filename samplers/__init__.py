"""Samplers: frozen dataclasses of plain values, called with a model, a value and random streams; one file each."""

__all__ = [
    "SMC",
    "SVDD",
    "Auto",
    "Beam",
    "BestOfN",
    "BlockBestOfN",
    "Elite",
    "NoiseSearch",
    "ParticleGibbs",
    "Refine",
    "Rollover",
    "Sampler",
    "Tilt",
    "Tree",
    "Unguided",
    "register_sampler",
    "resolve_sampler",
    "sampler_from_dict",
    "sampler_to_dict",
    "samplers",
]

from importlib import import_module
from pkgutil import iter_modules

from guided.samplers.auto import Auto
from guided.samplers.base import (
    Sampler,
    register_sampler,
    resolve_sampler,
    sampler_from_dict,
    sampler_to_dict,
    samplers,
)
from guided.samplers.beam import Beam
from guided.samplers.best_of_n import BestOfN
from guided.samplers.block_best_of_n import BlockBestOfN
from guided.samplers.elite import Elite
from guided.samplers.noise_search import NoiseSearch
from guided.samplers.particle_gibbs import ParticleGibbs
from guided.samplers.refine import Refine
from guided.samplers.rollover import Rollover
from guided.samplers.smc import SMC
from guided.samplers.svdd import SVDD
from guided.samplers.tilt import Tilt
from guided.samplers.tree import Tree
from guided.samplers.unguided import Unguided

for _module in iter_modules(__path__):  # each registers its sampler
    import_module(f"{__name__}.{_module.name}")
