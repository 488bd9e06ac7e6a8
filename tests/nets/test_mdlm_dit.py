"""The transformer of published masked language models: its keys, and its numbers beside the plain formula's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from guided.nets.mdlm_dit import MaskedDiT, _rotate

PARITY = Path(__file__).resolve().parents[3] / "shared/assets/parity"
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason="no reference outputs beside the checkout")


def random_net():
    torch.manual_seed(0)
    net = MaskedDiT(11, width=12, heads=3, depth=2, cond=6).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return net


def textbook(w, x, sigma, heads=3, depth=2):
    """The formula, a row and a head at a time; a pair of a head's entries is rotated as one complex number."""
    linear = lambda key, h: h @ w[f"{key}.weight"].T + w.get(f"{key}.bias", 0)  # noqa: E731
    norm = lambda key, h: F.layer_norm(h, h.shape[-1:]) * w[f"{key}.weight"]  # noqa: E731
    angles = sigma * 1e4 ** (-torch.arange(128) / 128)
    c = F.silu(linear("sigma_map.mlp.0", torch.cat([angles.cos(), angles.sin()])))
    c = F.silu(linear("sigma_map.mlp.2", c))
    h = w["vocab_embed.embedding"][x]
    turns = torch.polar(torch.ones(1), torch.outer(torch.arange(len(x)), w["rotary_emb.inv_freq"]))
    for i in range(depth):
        block = f"blocks.{i}."
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(block + "adaLN_modulation", c).chunk(6)
        q, k, v = linear(block + "attn_qkv", norm(block + "norm1", h) * (1 + scale1) + shift1).chunk(3, -1)
        parts = []
        for a, b, value in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
            a, b = (torch.complex(*part.chunk(2, -1)) * turns for part in (a, b))
            score = (a @ b.conj().T).real / value.shape[-1] ** 0.5
            parts.append(score.softmax(-1) @ value)
        h = h + gate1 * linear(block + "attn_out", torch.cat(parts, -1))
        m = linear(block + "mlp.0", norm(block + "norm2", h) * (1 + scale2) + shift2)
        h = h + gate2 * linear(block + "mlp.2", F.gelu(m, approximate="tanh"))
    shift, scale = linear("output_layer.adaLN_modulation", c).chunk(2)
    return linear("output_layer.linear", norm("output_layer.norm_final", h) * (1 + scale) + shift)


@pytest.mark.parametrize("length", [1, 2, 9, 40])
def test_logits_are_the_formulas_at_every_length(length):
    net, sigma = random_net(), torch.tensor([0.0, 0.4, 3.0])
    x = torch.randint(11, (3, length), generator=torch.Generator().manual_seed(length))
    expected = torch.stack([textbook(net.state_dict(), *row) for row in zip(x, sigma, strict=True)])
    torch.testing.assert_close(net(x, net.embed(sigma)), expected, atol=1e-5, rtol=0)


def test_scores_depend_on_the_distance_only():
    net = random_net()
    cos, sin = net.rotary_emb(30)
    q, k = torch.randn(2, 4)
    scores = _rotate(q.expand(30, 4), cos, sin) @ _rotate(k.expand(30, 4), cos, sin).T
    torch.testing.assert_close(scores[:-7, :-7], scores[7:, 7:])
    assert (scores[0, 0] - scores[0, 5]).abs() > 1e-3


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="5 heads"):
        MaskedDiT(11, width=12, heads=5)


@needs_parity
def test_keys_shapes_and_orders_are_the_published_ones():
    facts = json.loads((PARITY / "mdlm_dit_keys.json").read_text())
    with torch.device("meta"):  # 170 million numbers need no drawing
        net = MaskedDiT(50258, 768, 12, 12, 128)
    assert {key: list(w.shape) for key, w in net.state_dict().items()} == facts["state_dict"]
    assert [name for name, _ in net.named_parameters()] == facts["parameter_order"]


@needs_parity
@pytest.mark.parametrize(("output", "noise"), [("logits_sigma0", 0.0), ("logits_sigma", "sigma")])
def test_logits_are_the_references(output, noise):
    reference = np.load(PARITY / "mdlm_dit_h64.npz")
    net = MaskedDiT(28, 64, 4, 2, 32).eval().requires_grad_(False)
    net.load_state_dict(load_file(PARITY / "mdlm_dit_h64.safetensors"))
    sigma = torch.zeros(1) if noise == 0 else torch.from_numpy(reference[noise])
    logits = net(torch.from_numpy(reference["tokens"]), net.embed(sigma))
    torch.testing.assert_close(logits, torch.from_numpy(reference[output]), atol=1e-5, rtol=0)
