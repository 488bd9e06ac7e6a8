"""Any pipeline of diffusers as a `Diffusion`: by name or folder, or an existing object."""

__all__ = ["FAMILIES", "load", "with_guider", "wrap"]

from guided.adapters.diffusers.families import FAMILIES
from guided.adapters.diffusers.folder import load
from guided.adapters.diffusers.guiders import with_guider
from guided.adapters.diffusers.wrapping import wrap
