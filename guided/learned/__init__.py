"""Values that are learned from the pretrained model's own trajectories (SVDD-MC)."""

__all__ = ["TARGETS", "Data", "Fit", "LearnedValue", "Rollouts", "Scaled", "Settings", "describe", "read", "roll"]

from guided.learned.data import Data, Scaled
from guided.learned.fit import Fit, Settings
from guided.learned.rollouts import Rollouts, read, roll
from guided.learned.value import TARGETS, LearnedValue, describe
