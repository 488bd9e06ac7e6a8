"""The rewards that come with the package: importing it registers them, and imports none of their libraries."""

from guided.rewards import activity, combine, folding, molecules, motifs, mpra, sequences

__all__ = ["activity", "combine", "folding", "molecules", "motifs", "mpra", "sequences"]
