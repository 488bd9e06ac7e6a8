"""Negative-preference checkpoints: trained from the model itself, and used as the negative side of guidance."""

__all__ = ["FlippedDPO", "NegativeTraining", "SelfNPO", "attach", "merge", "train_negative"]

from guided.npo.dpo import FlippedDPO
from guided.npo.job import NegativeTraining, train_negative
from guided.npo.merge import merge
from guided.npo.negative import attach
from guided.npo.truncated import SelfNPO
