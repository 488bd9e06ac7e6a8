"""The rewards that come with the package: importing it registers them, and imports none of their libraries."""

__all__ = ["images", "molecules", "sequences", "text"]

from guided.rewards import images, molecules, sequences, text
