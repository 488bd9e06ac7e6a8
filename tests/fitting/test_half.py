"""A state of half the bytes: how near to the training it is, and that the training goes on from it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from guided.errors import GuidedError
from guided.fitting.half import halved, whole
from guided.fitting.loop import Loop, decaying
from guided.fitting.state import read_state, write_state
from tests.fitting.test_loop import loop, train, weights


def state_of(weight, average, **moments):
    optimizer = {"state": {0: {"step": torch.tensor(257.0), **moments}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return {
        "weights": {"w": weight},
        "others": {"count": torch.tensor(70_001)},
        "average": {"w": average, "count": torch.tensor(70_001)},
        "optimizers": [optimizer],
        "step": 257,
        "seconds": 1.5,
    }


@given(
    st.integers(0, 2**31),
    st.floats(-6, 1).map(lambda e: 10**e),
    st.floats(-6, 0).map(lambda e: 10**e),
    st.floats(1e-12, 9),
)
def test_what_comes_back_is_as_near_as_is_said(seed, size, apart, moment):
    draw = torch.Generator().manual_seed(seed)
    average = size * torch.randn(50, generator=draw)
    weight = average * (1 + apart * torch.randn(50, generator=draw))
    second = moment * torch.randn(50, generator=draw).square()
    state = state_of(weight, average, exp_avg_sq=second)
    found = whole(halved(state))
    least = 2.0**-24  # half the distance of float16's numbers around zero
    assert torch.equal(found["average"]["w"].half(), average.half())  # what is exported
    gap = (weight - found["average"]["w"]).abs()
    assert ((found["weights"]["w"] - weight).abs() <= 2.0**-11 * gap + least + 2.0**-23 * weight.abs()).all()
    moments = found["optimizers"][0]["state"][0]
    assert ((moments["exp_avg_sq"] - second).abs() <= 2.0**-8 * second).all()
    assert moments["step"] == 257 and moments["exp_avg_sq"].dtype == torch.float32
    assert found["others"]["count"] == found["average"]["count"] == 70_001
    assert {name: found[name] for name in ("step", "seconds")} == {"step": 257, "seconds": 1.5}


def test_half_the_bytes_and_none_of_the_training_changed():
    weight = torch.randn(1000)
    state = state_of(weight, weight + 0.01, momentum_buffer=torch.randn(1000))
    before = weight.clone()
    small = halved(state)
    for part in (small["weights"], small["average"], small["optimizers"][0]["state"][0]):
        assert sum(t.nbytes for t in part.values() if t.ndim) == 2000
    assert torch.equal(state["weights"]["w"], before) and state["average"]["w"].dtype == torch.float32


def test_numbers_that_float16_cannot_hold_stay_as_they_are():
    weight = torch.tensor([1e6, 1.0, -3e-5])
    found = whole(halved(state_of(weight, weight.clone(), exp_avg=torch.tensor([1e30, 1e-30, 0.0]))))
    assert torch.equal(found["weights"]["w"], weight) and torch.equal(found["average"]["w"], weight)
    torch.testing.assert_close(
        found["optimizers"][0]["state"][0]["exp_avg"], torch.tensor([1e30, 1e-30, 0.0]), rtol=2.0**-8, atol=0
    )


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_training_that_goes_on_stays_beside_one_that_was_not_stopped(tmp_path, stop):
    uninterrupted = train(loop()[0], tmp_path / "whole")
    first = train(loop(half=True)[0], tmp_path / "torn", stop)
    first.save(tmp_path / "torn")
    torn = loop(half=True)[0]
    torn.load(tmp_path / "torn")
    assert torn.step == stop
    train(torn, tmp_path / "torn")
    assert torn.step == 6
    one, other, start = (weights(made) for made in (uninterrupted, torn, loop()[0]))
    moved = max((one[name] - start[name]).abs().max() for name in one)
    apart = max((one[name] - other[name]).abs().max() for name in one if one[name].ndim)
    assert 0 < apart < 2e-3 * moved
    assert torch.equal(one["seen"], other["seen"])


def test_a_state_of_either_kind_is_loaded_by_either(tmp_path):
    made = train(loop(half=True)[0], tmp_path / "half")
    exact = train(loop()[0], tmp_path / "exact")
    for folder, half in (("half", False), ("exact", True)):
        other = loop(half=half)[0]
        other.load(tmp_path / folder)
        assert other.step == 6
        torch.testing.assert_close(weights(other), weights(made), rtol=2.0**-10, atol=1e-6)
    assert torch.equal(exact.weights["layer.weight"], other.weights["layer.weight"])


def test_saving_again_changes_nothing(tmp_path):
    """Slices that are cut off before their first update do not wear a training away."""
    made = train(loop(half=True)[0], tmp_path)
    for _ in range(3):
        made = loop(half=True)[0]
        made.load(tmp_path)
        before = weights(made)
        made.save(tmp_path)
        made = loop()[0]
        made.load(tmp_path)
        torch.testing.assert_close(weights(made), before, rtol=0, atol=1e-7)


def test_a_damaged_half_is_named(tmp_path):
    made = loop(half=True)[0]
    made.save(tmp_path)
    found = read_state(tmp_path)
    del found["average"]["layer.weight"]
    write_state(tmp_path, found)
    with pytest.raises(GuidedError, match="remove the folder to begin again"):
        made.load(tmp_path)


def test_weights_of_another_precision_are_refused():
    net = nn.Linear(2, 2).bfloat16()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with pytest.raises(GuidedError, match=r"half is True, but there are weights of torch.bfloat16; take float32"):
        Loop(net, [optimizer], rate=lambda update, progress: 0.1, share=decaying(0.9), half=True)
