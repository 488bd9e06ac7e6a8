"""A request's numbers depend on the seed and on the request, and on nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.core.random import Streams
from guided.core.random.device import DeviceNumbers
from guided.core.random.host import HostNumbers


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 10**6), min_size=1, max_size=5, unique=True))
def test_numbers_do_not_depend_on_the_other_requests(seed, requests):
    together = Streams(seed, requests)
    u, z = together.uniform(3, 2), together.normal(4)
    for b, i in enumerate(requests):
        alone = Streams(seed, [i])
        assert torch.equal(alone.uniform(3, 2)[0], u[b]) and torch.equal(alone.normal(4)[0], z[b])


def test_requests_and_seeds_have_different_numbers():
    draws = [Streams(seed, [i]).uniform(4)[0] for seed in range(20) for i in range(20)]
    assert len({tuple(d.tolist()) for d in draws}) == 400


def test_seed_and_request_are_not_interchangeable_and_numbers_are_kept():
    """The three numbers are pinned: another generator would change every published run."""
    u = Streams(1, [0]).uniform(3)[0]
    assert not torch.equal(u, Streams(0, [1]).uniform(3)[0])
    torch.testing.assert_close(u, torch.tensor([0.458534, 0.303568, 0.729463]), atol=1e-6, rtol=0)


def test_moments():
    streams = Streams(1, range(50))
    u, z, g = streams.uniform(4000), streams.normal(4000), streams.gumbel(4000)
    assert abs(u.mean() - 0.5) < 0.005 and u.min() >= 0 and u.max() < 1
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert abs(g.mean() - 0.57722) < 0.02 and g.dtype == torch.float64


@pytest.mark.parametrize(("seed", "request_"), [(-1, 0), (2**64, 0), (0, -1)])
def test_out_of_range(seed, request_):
    with pytest.raises(ValueError, match="must be a whole number in"):
        Streams(seed, [request_])


@pytest.mark.parametrize(
    ("purpose", "seed", "request_"),
    [
        ("samples", 5, 3),
        ("likelihood", 5, 2**61 + 3),
        ("rollouts", 5, 2**63 + 3),
        ("training", 2**63 + 5, 3),
    ],
)
def test_the_key_of_each_purpose_is_kept(purpose, seed, request_):
    """Other keys would change every value, negative checkpoint and likelihood that was ever computed."""
    numbers = Streams(5, [3], purpose=purpose).normal(20)
    assert torch.equal(numbers, Streams(seed, [request_]).normal(20))


def test_the_largest_seed_trains_too():
    last, wrapped = Streams(2**64 - 1, [0], purpose="training"), Streams(2**63 - 1, [0])
    assert torch.equal(last.uniform(3), wrapped.uniform(3))


def test_no_such_purpose():
    known = "samples, likelihood, preferences, rollouts, training"
    with pytest.raises(ValueError, match=f"purpose is .sample.; it is one of {known}"):
        Streams(0, [0], purpose="sample")


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["uniform", "uniform", "normal", "gumbel"]),
        st.sampled_from([(), (1,), (3,), (2, 5), (7, 3)]),
        st.sampled_from([None, None, [0], [2, 0]]),
    ),
    max_size=12,
)


def drawn(source, operations):
    """The numbers of some draws, each of all three requests or of some."""
    return [(source if some is None else source.take(some)).draw(kind, shape) for kind, shape, some in operations]


@given(st.integers(0, 2**64 - 1), OPERATIONS)
def test_a_device_draws_the_numbers_of_numpy(seed, operations):
    keys = [(seed, 0), (seed, 5), (2**64 - 1, 2**61)]
    host = drawn(HostNumbers.of(keys, torch.device("cpu")), operations)
    device = drawn(DeviceNumbers.of(keys, torch.device("cpu")), operations)
    for (kind, *_), ours, numpys in zip(operations, device, host, strict=True):
        assert ours.shape == numpys.shape and ours.dtype == numpys.dtype
        if kind == "gumbel":  # logarithms of two libraries
            torch.testing.assert_close(ours, numpys, rtol=1e-14, atol=1e-14)
        else:
            assert torch.equal(ours, numpys)


@given(st.integers(0, 99), OPERATIONS)
def test_numbers_that_are_drawn_ahead_are_the_same(seed, operations):
    keys = [(seed, 0), (seed, 5), (1, 2)]
    plain = drawn(HostNumbers.of(keys, torch.device("cpu")), operations)
    ahead = drawn(HostNumbers.of(keys, torch.device("cpu"), ahead=True), operations)
    assert all(map(torch.equal, ahead, plain))


def test_a_loop_of_normal_and_gumbel_numbers_is_served_ahead():
    source = HostNumbers.of([(0, 0), (0, 1)], torch.device("cpu"), ahead=True)
    filled = []
    fill, source._fill = source._fill, lambda *wanted: filled.append(wanted) or fill(*wanted)
    for _ in range(5):
        source.draw("normal", (4, 2))
        source.draw("gumbel", (4,))
    # Two normals and a Gumbel when asked for, one normal for nothing; then two draws ahead of each of four turns.
    assert len(filled) == 4 + 2 * 4


@given(st.integers(0, 99), st.lists(st.sampled_from([[0, 1, 2], [0], [2], [1, 2]]), max_size=8))
def test_a_request_may_draw_more_often_than_the_others(seed, turns):
    """What a request draws depends on how much it has drawn before, not on the turns of others."""
    together = Streams(seed, [4, 5, 6])
    alone = {i: Streams(seed, [4 + i]) for i in range(3)}
    for turn in turns:
        part = together.take(turn)
        for draw in ("uniform", "normal", "gumbel"):
            numbers = getattr(part, draw)(3)
            for row, i in zip(numbers, turn, strict=True):
                assert torch.equal(row, getattr(alone[i], draw)(3)[0])


def test_where_streams_are_is_told_alike():
    """A kernel reads both numbers with one stride."""
    source = DeviceNumbers.of([(0, 0), (0, 1), (0, 2)], torch.device("cpu"))
    for n, some in ((4, None), (4, [0]), (1, [1]), (3, None), (1, None)):
        part = source if some is None else source.take(some)
        part.draw("uniform", (n,))
        taken, held = source._uploaded()
        assert taken.shape == held.shape


def test_a_request_is_taken_once():
    with pytest.raises(ValueError, match="each must be there once"):
        Streams(0, [1, 2]).take([0, 0])
