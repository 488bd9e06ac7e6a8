"""Pipelines by their own loop: any that denoises through a scheduler is a model, without a line of code for it."""

__all__ = ["wrap_loop"]

from guided.adapters.diffusers.loops.model import wrap_loop
