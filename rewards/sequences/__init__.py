"""Rewards of DNA and RNA."""

__all__ = ["activity", "composition", "folding", "motifs", "mpra"]

from guided.rewards.sequences import activity, composition, folding, motifs, mpra
