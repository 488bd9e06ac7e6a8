"""The start of a run that keeps a part of a sample."""

from dataclasses import replace

import pytest
import torch

from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.editing import Editing
from guided.core.gaussian import Gaussian
from guided.core.random import Streams

PROCESS = Gaussian((4,), [0.8, 0.9, 1.0], [0.6, 0.3, 0.0], [2.0, 1.0, 0.0])
X, FREE = torch.tensor([[3.0, -2.0, 5.0, 1.0]]), torch.tensor([[True, False, True, False]])
N = 20_000


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_kept_entries_start_as_the_noised_sample_and_free_ones_at_strength_1_as_noise(strength: float) -> None:
    """N(alpha_k x, sigma_k^2) where the sample is kept; where it is free, N(0, 1) for a start from noise."""
    x, k = Editing(X, strength, FREE).start(PROCESS, N, Streams(0, [0, 1]))
    assert x.shape == (2, N, 4) and k == (0 if strength == 1 else 1)
    alpha, sigma = PROCESS.alphas[k], PROCESS.sigmas[k]
    noise = (strength == 1) & FREE[0]
    mean = torch.where(noise, 0.0, alpha * X[0])
    std = torch.where(noise, 1.0, torch.full((4,), sigma))
    torch.testing.assert_close(x.mean((0, 1)), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(x.std((0, 1)), std, atol=0.02, rtol=0)


def test_free_and_kept_entries_start_independently_of_each_other_and_between_requests() -> None:
    x, _ = Editing(X, 1.0, FREE).start(PROCESS, N, Streams(0, [0, 1]))
    rows = (x - x.mean(1, keepdim=True)).movedim(0, 1).reshape(N, 8)
    torch.testing.assert_close(torch.corrcoef(rows.T), torch.eye(8), atol=0.03, rtol=0)


def test_each_request_keeps_its_own_sample() -> None:
    two = Editing(torch.cat([X, -X]), 1.0, FREE)
    x, _ = two.start(PROCESS, N, Streams(0, [0, 1]))
    kept = ~FREE[0]
    torch.testing.assert_close(x.mean(1)[:, kept], 0.8 * torch.cat([X, -X])[:, kept], atol=0.03, rtol=0)
    assert two.select([1]).x.equal(-X) and replace(two, x=X).select([1]).x.equal(X)


@pytest.mark.parametrize("strength", [None, 1.0, 0.5])
def test_a_model_with_a_mask_starts_where_its_editing_does(strength: float | None) -> None:
    """From the first step by default: what is kept is there from the start."""
    codec = Codec(encode=lambda _: X[0], region=lambda _: FREE[0])
    model = Diffusion(lambda x, t: x, PROCESS, codec).edited("a sample", strength, "a mask")
    model = model.with_requests(editing=replace(model.requests.editing, x=torch.cat([X, -X])))
    x, k = Editing(torch.cat([X, -X]), strength or 1.0, FREE).start(PROCESS, 3, Streams(0, [0, 1]))
    particles = model.start(Streams(0, [0, 1]), 3)
    assert particles.x.equal(x) and particles.k == k
