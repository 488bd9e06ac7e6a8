"""Pipelines of text: masked tokens that are revealed in blocks."""

__all__ = ["REFUSED", "TEXT", "wrap_text"]

from guided.adapters.diffusers.text.model import wrap_text

#: The pipelines whose process is :class:`guided.core.blocks.Blocks`.
TEXT = ("LLaDA2Pipeline",)

#: Pipelines of text that cannot be models, with the reason.
REFUSED = {
    "DiffusionGemmaPipeline": "its noise is uniform, not masked: tokens that are not accepted are drawn anew at every "
    "step; and its network takes its own last prediction at every position, which is neither tokens nor time, and "
    "candidates branch. LLaDA2Pipeline has a masked one"
}
