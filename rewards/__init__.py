"""The rewards that come with the package: importing it registers them, and imports none of their libraries."""

from guided.rewards import (
    activity,
    clip,
    combine,
    faces,
    folding,
    image_reward,
    images,
    molecules,
    motifs,
    mpra,
    ocr,
    preference,
    quality,
    sequences,
)

__all__ = [
    "activity",
    "clip",
    "combine",
    "faces",
    "folding",
    "image_reward",
    "images",
    "molecules",
    "motifs",
    "mpra",
    "ocr",
    "preference",
    "quality",
    "sequences",
]
