"""The rewards that come with the package: importing it registers them, and imports none of their libraries."""

from guided.rewards import combine, molecules

__all__ = ["combine", "molecules"]
