"""The shipped image model: an image depends on the seed and on its request, and on nothing else, to the last bit."""

import numpy as np
import pytest

import guided
from guided.samplers import SVDD

PROMPTS = ["red apple", "blue car", "red apple"]
OPTIONS = {"n": 3, "steps": 5, "prompt": PROMPTS, "guidance": 3.0}


@pytest.fixture(scope="module")
def whole():
    return guided.sample("images", "compressibility", SVDD(M=5), **OPTIONS).samples


@pytest.mark.parametrize("request_", range(3))
def test_an_image_is_the_same_alone_and_among_others(whole, request_):
    """At alpha = 0, where a last digit that differs would flip a choice, and then everything."""
    [batch] = guided.stream("images", "compressibility", SVDD(M=5), only=[request_], **OPTIONS)
    assert np.array_equal(np.asarray(batch.samples[0]), np.asarray(whole[request_]))


def test_the_batch_size_changes_nothing(whole):
    run = guided.sample("images", "compressibility", SVDD(M=5), batch_size=2, **OPTIONS)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(run.samples, whole, strict=True))
