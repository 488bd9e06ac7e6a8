"""Samplers that follow the gradient of a reward, for comparison: the others need none."""

__all__ = ["DPS", "TDS", "ClassifierGuidance"]

from guided.samplers.gradient.classifier_guidance import ClassifierGuidance
from guided.samplers.gradient.dps import DPS
from guided.samplers.gradient.tds import TDS
