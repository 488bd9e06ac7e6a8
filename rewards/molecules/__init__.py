"""Rewards of molecules, as SMILES."""

__all__ = ["properties"]

from guided.rewards.molecules import properties
