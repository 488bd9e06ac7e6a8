"""Tiny random diffusers pipelines, and what diffusers itself does with them, step by step."""

__all__ = ["FAMILIES", "WORDS", "Trajectory", "ancestral_flow", "build", "ddim", "draws", "reference"]

import pytest

pytest.importorskip("diffusers")  # every test that imports this is skipped without

from tests.adapters.diffusers.pipelines.families import FAMILIES, build
from tests.adapters.diffusers.pipelines.parts import WORDS
from tests.adapters.diffusers.pipelines.reference import Trajectory, ancestral_flow, ddim, draws, reference
