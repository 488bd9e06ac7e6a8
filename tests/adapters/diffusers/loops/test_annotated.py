"""Arguments of a pipeline's call, as far as annotations tell: what fits passes, what cannot is told in words."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, Optional, Union

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from diffusers.image_processor import PipelineImageInput

from guided.adapters.diffusers.loops.annotated import accepts, described

IMAGE = PIL.Image.new("RGB", (2, 2))


@pytest.mark.parametrize(
    ("annotation", "good", "bad", "words"),
    [
        (float, [1, 0.5, None, np.float32(1)], ["a", True, [IMAGE], {}], "a number"),
        (int | None, [1, None], ["1", 0.5, True], "a whole number"),
        (Optional[bool], [True], [1, "yes"], "true or false"),  # noqa: UP045
        (Union[str, list[str]], ["a", ["a", "b"], ("a",)], [1, [1], {}], "text, or a list of these"),  # noqa: UP007
        (float | list[float], [1, [0.5, 1]], ["a", ["a"], IMAGE], "a number, or a list of these"),
        (list[float], [[1], (0.5,), torch.ones(2)], [1, "1"], "a list of numbers"),
        (tuple[int, int], [[1, 2], (1, 2)], [3], "a list of whole numbers"),
        (dict[str, Any] | None, [{"a": 1}], [[1], "a"], "a table"),
        (Literal["a", "b"], ["a"], ["c"], "'a' or 'b'"),
        (PIL.Image.Image, [IMAGE, [IMAGE]], ["a.png", 1], "an image"),
        (
            PipelineImageInput,
            [IMAGE, [IMAGE], torch.ones(1), np.ones(1)],
            ["a.png", 3],
            "an image, an array, a tensor, or",
        ),
        (Any, [1, "a", IMAGE], [], None),
        (inspect.Parameter.empty, [1, "a"], [], None),
        ("list[float]", [1, "a"], [], None),  # not evaluated
        (Callable[[int], int], [len], [], None),
    ],
)
def test_what_fits_passes(annotation: Any, good: list[Any], bad: list[Any], words: str | None) -> None:
    assert all(accepts(annotation, value) for value in good)
    assert not any(accepts(annotation, value) for value in bad)
    assert words is None or described(annotation).startswith(words)


def test_defaults_fit_the_annotations_of_all_pipelines() -> None:
    """Or else right arguments would be refused."""
    tried, wrong = 0, []
    for name in dir(diffusers):
        try:
            call = inspect.unwrap(getattr(diffusers, name).__call__) if name.endswith("Pipeline") else len
            parameters = inspect.signature(call).parameters.values()
        except (ImportError, RuntimeError, AttributeError):  # of a library that is not installed
            continue
        tried += name.endswith("Pipeline")
        wrong += [(name, p) for p in parameters if p.default is not p.empty and not accepts(p.annotation, p.default)]
    assert tried > 200 and wrong == []
