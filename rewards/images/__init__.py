"""Rewards of images and videos."""

__all__ = ["appearance", "clip", "faces", "image_reward", "ocr", "piqe", "preference"]

from guided.rewards.images import appearance, clip, faces, image_reward, ocr, piqe, preference
