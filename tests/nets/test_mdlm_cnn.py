"""The convolutional network of published masked models: its keys, and its numbers beside the plain formula's."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional as F

from guided.nets.mdlm_cnn import MaskedCNN

PARITY = Path(__file__).resolve().parents[3] / "shared/assets/parity"
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason="no reference outputs beside the checkout")


def random_net(width=8, stacks=2, seed=0):
    torch.manual_seed(seed)
    net = MaskedCNN(5, width, stacks).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return net


def textbook(w, x, sigma, stacks):
    """The formula, written down with channels before positions, whole kernels and nothing kept."""
    angles = sigma[:, None] * w["time_embedder.0.W"] * 2 * math.pi
    fourier = torch.cat([angles.sin(), angles.cos()], -1)
    time = F.relu(fourier @ w["time_embedder.1.weight"].T + w["time_embedder.1.bias"])
    feat = F.relu(F.conv1d(F.one_hot(x, 5).float().mT, w["linear.weight"], w["linear.bias"], padding=4))
    dilations = [1] * 2 * stacks + [4] * stacks + [16] * stacks + [64] * stacks
    for i, d in enumerate(dilations):
        shift = time @ w[f"time_layers.{i}.dense.weight"].T + w[f"time_layers.{i}.dense.bias"]
        h = feat + shift[:, :, None]
        h = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        h = h * w[f"norms.{i}.weight"][:, None] + w[f"norms.{i}.bias"][:, None]
        conv = F.conv1d(h, w[f"convs.{i}.weight"], w[f"convs.{i}.bias"], padding=4 * d, dilation=d)
        feat = F.relu(conv) + feat
    h = F.relu(F.conv1d(feat, w["final_conv.0.weight"], w["final_conv.0.bias"]))
    return F.conv1d(h, w["final_conv.2.weight"], w["final_conv.2.bias"]).mT


@settings(max_examples=12, deadline=None)
@given(length=st.integers(1, 300), n=st.integers(1, 3), stacks=st.integers(1, 2))
def test_logits_are_the_formulas_at_every_length(length, n, stacks):
    net = random_net(stacks=stacks)
    generator = torch.Generator().manual_seed(length)
    x = torch.randint(5, (n, length), generator=generator)
    sigma = torch.rand(n, generator=generator)
    expected = textbook(net.state_dict(), x, sigma, stacks)
    torch.testing.assert_close(net(x, net.embed(sigma)), expected, atol=2e-5, rtol=0)


def test_one_embedding_stands_for_all_rows():
    net, x = random_net(), torch.randint(5, (3, 20))
    once = net(x, net.embed(torch.full((1,), 0.7)))
    torch.testing.assert_close(once, net(x, net.embed(torch.full((3,), 0.7))))


def test_embedding_of_no_noise_is_not_zero():
    """It is a learned constant, so it must be fed and not left out."""
    net = random_net()
    at_zero = net.embed(torch.zeros(1))
    assert all(part.abs().max() > 1e-3 for part in at_zero)
    x = torch.full((1, 20), 4)
    assert (net(x, at_zero) - net(x, [torch.zeros_like(part) for part in at_zero])).abs().max() > 1e-3


def test_the_real_network_has_the_published_size():
    net = MaskedCNN(5, 128, 4)
    assert len(net.state_dict()) == 129
    assert sum(p.numel() for p in net.parameters()) == 3_326_661
    trained = [name for name, p in net.named_parameters() if p.requires_grad]
    assert len(trained) == 128 and "time_embedder.0.W" not in trained
    assert [conv.dilation[0] for conv in net.convs] == [1] * 8 + [4] * 4 + [16] * 4 + [64] * 4


@needs_parity
def test_keys_shapes_and_orders_are_the_published_ones():
    facts = json.loads((PARITY / "mdlm_cnn_real_keys.json").read_text())
    net = MaskedCNN(5, 128, 4)
    assert {key: list(w.shape) for key, w in net.state_dict().items()} == facts["state_dict"]
    assert [name for name, p in net.named_parameters() if p.requires_grad] == facts["ema_shadow_param_order"]


@needs_parity
@pytest.mark.parametrize(("output", "noise"), [("logits_sigma0", 0.0), ("logits_sigma", "sigma")])
def test_logits_are_the_references(output, noise):
    reference = np.load(PARITY / "mdlm_cnn_h32_s1.npz")
    net = MaskedCNN(5, 32, 1).eval().requires_grad_(False)
    net.load_state_dict(load_file(PARITY / "mdlm_cnn_h32_s1.safetensors"))
    sigma = torch.zeros(1) if noise == 0 else torch.from_numpy(reference[noise])
    logits = net(torch.from_numpy(reference["tokens"]), net.embed(sigma))
    torch.testing.assert_close(logits, torch.from_numpy(reference[output]), atol=1e-5, rtol=0)
