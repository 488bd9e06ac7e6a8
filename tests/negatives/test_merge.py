"""The arithmetic of weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.negatives.merge import merge

PARITY = Path(__file__).resolve().parents[3] / "shared/assets/parity/npo_merge.npz"
numbers = st.floats(-10, 10, allow_nan=False, width=32)
shares = st.floats(0, 1)
alphas = st.floats(-2, 3)


@st.composite
def networks(draw):
    """The base, the positive model and the negative checkpoint, with two weights each."""
    return [{name: torch.tensor(draw(st.lists(numbers, min_size=3, max_size=3))) for name in "ab"} for _ in range(3)]


def close(one, other, scale=1.0):
    assert one.keys() == other.keys()
    return all(torch.allclose(one[key], other[key], rtol=1e-5, atol=1e-4 * scale) for key in one)


@pytest.mark.skipif(not PARITY.is_file(), reason="no reference outputs beside the checkout")
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_published_merge(beta):
    """Their w is the share that is left out."""
    with np.load(PARITY) as arrays:
        base, positive, npo, wanted = (
            {name: torch.from_numpy(arrays[f"{start}_{name}"]) for name in "abc"}
            for start in ("base", "pos", "npo", f"neg_w{beta}")
        )
    merged = merge(base, positive, npo, beta=beta)
    for name in "abc":
        torch.testing.assert_close(merged[name], wanted[name], rtol=0, atol=1e-6)


@given(networks())
def test_nothing_is_moved_at_alpha_0(nets):
    base, positive, npo = nets
    assert close(merge(base, positive, npo, alpha=0.0), positive)
    assert all(torch.equal(w, base[key]) for key, w in merge(base, base, npo, alpha=0.0).items())


@given(networks(), shares)
def test_the_checkpoint_itself_where_the_positive_model_is_the_base(nets, beta):
    base, _, npo = nets
    assert close(merge(base, base, npo, 1.0, beta), npo)


@given(networks(), alphas, alphas, shares, shares)
def test_linear_in_alpha_and_beta(nets, one, other, beta, second):
    base, positive, npo = nets
    ends = [merge(base, positive, npo, alpha, beta) for alpha in (one, other)]
    middle = merge(base, positive, npo, (one + other) / 2, beta)
    assert close(middle, {key: (ends[0][key] + ends[1][key]) / 2 for key in base}, 10)
    ends = [merge(base, positive, npo, one, b) for b in (beta, second)]
    middle = merge(base, positive, npo, one, (beta + second) / 2)
    assert close(middle, {key: (ends[0][key] + ends[1][key]) / 2 for key in base}, 10)


@given(networks(), alphas)
def test_at_beta_1_the_positive_model_is_left_out(nets, alpha):
    base, positive, npo = nets
    assert close(merge(base, positive, npo, alpha, 1.0), merge(base, base, npo, alpha, 0.0))


def test_precision_and_counters_are_those_of_the_positive_model():
    base = {"w": torch.ones(2), "n": torch.tensor(3)}
    positive = {"w": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(5)}
    merged = merge(base, positive, {"w": torch.zeros(2, dtype=torch.float16), "n": torch.tensor(7)}, alpha=0.5)
    assert merged["w"].dtype == torch.bfloat16 and merged["w"].tolist() == [0.5, 0.5]
    assert merged["n"].item() == 5


@pytest.mark.parametrize(
    ("positive", "npo", "message"),
    [
        ({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, r"negative checkpoint .* a is \(3,\), the base has \(2,\)"),
        ({"a": torch.zeros(2)}, {}, r"negative checkpoint .* a is nothing, the base has \(2,\)"),
        ({"a": torch.zeros(2), "b": torch.zeros(1)}, {"a": torch.zeros(2)}, "positive model .* the base has nothing"),
    ],
    ids=["shape", "missing", "extra"],
)
def test_another_architecture(positive, npo, message):
    with pytest.raises(ValueError, match=message):
        merge({"a": torch.zeros(2)}, positive, npo)


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"alpha": "half"}, "alpha is 'half'"),
        ({"alpha": True}, "alpha is True"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"beta": 1.1}, "beta is 1.1"),
        ({"beta": "x"}, "beta is 'x'"),
    ],
)
def test_hyperparameters_out_of_range(hyperparameters, message):
    nothing = {"a": torch.zeros(1)}
    with pytest.raises(ValueError, match=message):
        merge(nothing, nothing, nothing, **hyperparameters)
