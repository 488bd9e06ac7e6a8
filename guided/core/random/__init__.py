"""Randomness: a stream of numbers for each request and purpose."""

__all__ = ["Purpose", "Streams"]

from guided.core.random.streams import Purpose, Streams
