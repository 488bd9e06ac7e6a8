"""Hypothesis draws the same examples every time, and no clock fails a test on a busy machine."""

from hypothesis import settings

settings.register_profile("guided", deadline=None, derandomize=True)
settings.load_profile("guided")
