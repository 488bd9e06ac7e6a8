"""Fitting a value: rollouts of the pretrained model, a regression, and the reward that SVDD reaches with it."""

__all__ = ["FitProgress", "fit_value", "load_value"]

from guided.fitting.call import fit_value
from guided.fitting.folder import load_value
from guided.fitting.job import FitProgress
