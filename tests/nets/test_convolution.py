"""The convolutional network: its activation is GELU's, to the last bit, wherever a number may lie."""

import pytest
import torch
from torch.nn import functional as F

from guided.nets.convolution import gelu


def bits(kind: torch.dtype) -> torch.Tensor:
    """Every finite number in half the bits of float32, and of its other half a random one each."""
    upper = torch.arange(2**16, dtype=torch.int64)
    words = upper << 16 if kind == torch.bfloat16 else upper << 16 | torch.randint(2**16, (2**16,))
    numbers = words.to(torch.int32).view(torch.float32)
    return numbers[numbers.abs() < 1e30].to(kind)  # beyond, the cube overflows


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_activation_is_gelu_to_the_last_bit(kind: torch.dtype) -> None:
    h = bits(kind)
    assert len(h) > 50_000
    word = torch.int16 if kind == torch.bfloat16 else torch.int32
    assert torch.equal(gelu(h).view(word), F.gelu(h, approximate="tanh").view(word))


def test_activation_has_gelus_slope() -> None:
    h = torch.linspace(-40, 40, 8001, requires_grad=True)
    (slope,) = torch.autograd.grad(gelu(h).sum(), h)
    (expected,) = torch.autograd.grad(F.gelu(h, approximate="tanh").sum(), h)
    torch.testing.assert_close(slope, expected, atol=1e-6, rtol=0)
