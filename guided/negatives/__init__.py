"""Negative checkpoints: the negative side of a model's guidance."""
