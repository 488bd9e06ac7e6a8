"""The examples of docs/images.md run, and what it says of the families is so."""

import re
from pathlib import Path
from typing import Any

import pytest

from guided.adapters.diffusers import FAMILIES
from guided.adapters.diffusers.guiders.names import _kinds
from guided.core.sound import Sound

PAGE = (Path(__file__).parents[3] / "docs" / "images.md").read_text(encoding="utf-8")


def test_the_examples_run() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, "images.md", "exec"), names)
    assert len(blocks) == 2


def test_the_examples_of_pipelines_run() -> None:
    page = (Path(__file__).parents[3] / "docs" / "pipelines.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "docs"}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(compile(block, "pipelines.md", "exec"), names)
    assert names["steady"]([Sound([0.1] * 800, 8000), Sound([0.1] * 4000 + [0.0] * 4000, 8000)]) == [
        pytest.approx(-20, abs=0.01),
        pytest.approx(-100),
    ]


def test_it_names_every_guider() -> None:
    import diffusers.guiders
    from diffusers.guiders.guider_utils import BaseGuidance

    page = (Path(__file__).parents[3] / "docs" / "pipelines.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| `(\w+Guidance)` \|", page, re.MULTILINE))
    kinds = [kind.__name__ for kind in vars(diffusers.guiders).values() if isinstance(kind, type)]
    assert {*rows.values()} == {*kinds} - {"BaseGuidance", "LTX2Guidance"}
    for name, kind in rows.items():
        assert issubclass(_kinds()[name], BaseGuidance) and _kinds()[name].__name__ == kind


def test_it_names_every_family_and_the_defaults() -> None:
    for name, family in FAMILIES.items():
        if "Img2Img" in name:
            continue
        [row] = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line]
        guidance = "none" if family.guidance is None else f"{family.guidance:g}"
        assert row.split("|")[-3:-1] == [f" {guidance} ", f" {family.steps} "], name
