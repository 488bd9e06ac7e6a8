"""Guiders of diffusers as the guidance of a model: pure functions of what the network predicts at one step."""

__all__ = ["with_guider"]

from guided.adapters.diffusers.guiders.model import with_guider
