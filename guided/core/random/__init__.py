"""Randomness: one sequence of numbers a request and purpose."""

__all__ = ["Purpose", "Streams"]

from guided.core.random.streams import Purpose, Streams
