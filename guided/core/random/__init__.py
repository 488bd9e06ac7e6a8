"""Randomness: one sequence of numbers a request."""

__all__ = ["Streams"]

from guided.core.random.streams import Streams
