"""The masked process: revealed tokens stay, pinned tokens stay, and the rates are the schedule's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.core.random import Streams
from guided.samplers import SVDD, Unguided
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Chain

B = 3000
INF = math.inf


def uniform(L=8, V=4, K=16, **options):
    return Diffusion(lambda x, t: torch.full((*x.shape, V), -math.log(V)), Masked(L, V, K, **options), timed=False)


@pytest.mark.parametrize(
    ("schedule", "rate"), [("log-linear", lambda t: t), ("cosine", lambda t: math.sin(math.pi / 2 * t))]
)
def test_mask_rate_follows_the_schedule(schedule, rate):
    particles = uniform(K=10, schedule=schedule).start(Streams(0, range(B)))
    while not particles.done:
        particles = particles.propose()
        assert (particles.x == 4).float().mean().item() == pytest.approx(rate(1 - particles.k / 10), abs=0.012)
    assert (particles.x < 4).all()


def test_revealed_tokens_stay():
    particles = uniform().start(Streams(0, range(64)))
    while not particles.done:
        after = particles.propose(3)
        before = particles.x.repeat_interleave(3, dim=1)
        assert torch.equal(after.x[before != 4], before[before != 4])
        particles = after.take(torch.zeros(64, 1, dtype=torch.long))


@pytest.mark.parametrize("M", [1, 3])
@pytest.mark.parametrize("V", [4, 20])
def test_a_step_leaves_its_particles_as_they_are(V, M):
    process, streams = Masked(6, V, 3), Streams(0, range(2))
    x = process.prior(2, streams)
    y = torch.zeros(2, 2, 6, V)
    new = process.propose(x, y, 0, M, streams)
    assert new.shape == (2, 2 * M, 6) and (new != process.mask).any()
    assert (x == process.mask).all()


@given(st.integers(0, 10**6), st.lists(st.integers(0, 4), min_size=8, max_size=8))
def test_pinned_tokens_stay_everywhere(seed, fixed):
    fixed = torch.tensor(fixed)
    pins = fixed != 4
    model = uniform().pinned(fixed)
    streams = Streams(seed, [0, 1])
    particles = model.start(streams)
    while not particles.done:
        assert (particles.x[..., pins] == fixed[pins]).all()
        assert (particles.look_ahead().rows[..., pins] == fixed[pins]).all()
        assert (particles.draw(2)[..., pins] == fixed[pins]).all()
        particles = particles.propose(2).take(torch.zeros(2, 1, dtype=torch.long))
    assert (particles.x[..., pins] == fixed[pins]).all()
    again = model.restart((particles.x + 1) % 4, 3, streams)
    assert (again.x[..., pins] == fixed[pins]).all()


def test_pins_of_each_request_follow_their_request():
    fixed = torch.full((5, 8), 4)
    fixed[:, 0] = torch.arange(5) % 4
    model = uniform().pinned(fixed)
    x = Unguided()(model.select([3, 1]), None, Streams(0, [3, 1])).x
    assert x[:, 0, 0].tolist() == [3, 1]
    with pytest.raises(ValueError, match="for 5 requests"):
        model.select([7])


def test_tokens_follow_the_network_and_its_temperature():
    p = torch.tensor([0.5, 0.3, 0.2, 0.0])
    for temperature in (1.0, 0.5):
        process = Masked(2, 4, 1, temperature=temperature)
        model = Diffusion(lambda x, t: p.log().expand(*x.shape, 4), process, timed=False)
        x = Unguided()(model, None, Streams(0, range(20_000))).x.flatten()
        expected = p ** (1 / temperature)
        torch.testing.assert_close(
            torch.bincount(x, minlength=4) / len(x), expected / expected.sum(), atol=0.01, rtol=0
        )
        assert (x != 3).all()


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24])
def test_impossible_tokens_are_not_drawn_at_the_ends(u):
    class Edge:
        def uniform(self, *shape):
            return torch.full((1, *shape), u)

    y = torch.tensor([-INF, 0.1, 0.3, -INF]).expand(1, 1, 2, 4)
    token = Masked(2, 4, 1).draw(torch.full((1, 1, 2), 4), y, 1, Edge())
    assert set(token.flatten().tolist()) <= {1, 2}


def test_unnormalised_guided_output_is_renormalised():
    """Guided log-probabilities do not sum to one; adding a constant must change nothing."""
    chain = Chain()
    y = chain.conditionals[chain.index(torch.full((1, 1, 3), 2))].float()
    x = torch.full((1, 1, 3), 2)
    draws = [chain.process.propose(x, y + shift, 0, 50, Streams(0, [0])) for shift in (0.0, 7.0)]
    assert torch.equal(*draws)


def test_noise_masks_at_the_rate():
    process = Masked(50, 4, 10)
    x = process.noise(torch.zeros(200, 1, 50, dtype=torch.long), 3, Streams(0, range(200)))
    assert (x == 4).float().mean().item() == pytest.approx(0.7, abs=0.02)
    assert (process.noise(torch.zeros(1, 1, 50, dtype=torch.long), 10, Streams(0, [0])) == 0).all()


def test_look_ahead_is_a_clean_sample():
    """The mask is never predicted, even at the first step."""
    seen = []
    reward = lambda x: seen.append(x) or x.double().sum(1)  # noqa: E731
    SVDD(4)(uniform(), PosteriorMean(reward), Streams(0, range(4)))
    assert max(int(x.max()) for x in seen) < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"schedule": "linear"}, "it is one of log-linear, cosine"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": math.inf}, "finite"),
        ({"fixed": torch.zeros(7, dtype=torch.long)}, "L = 8"),
        ({"fixed": torch.full((8,), 5)}, "0..4"),
        ({"fixed": torch.zeros(8)}, "whole numbers"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        Masked(8, 4, **options)


def test_tokens_are_drawn_from_sums_in_double_precision():
    """Half a million tokens of probability 1e-8 behind one of 0.9: sums in single precision step over six at a time."""
    V, M = 2**19, 2**16
    p = torch.full((V,), 1e-8, dtype=torch.float64)
    p[0], p[-1] = 0.9, 0.1 - 1e-8 * (V - 2)
    drawn = Masked(1, V, 1).propose(torch.full((1, 1, 1), V), p.log().float()[None, None, None], 0, M, Streams(0, [0]))
    edges = p.log().float().double().softmax(0).cumsum(0)
    u = Streams(0, [0]).uniform(1, M, 1).flatten().double() * edges[-1]
    expected = torch.searchsorted(edges, u, right=True)
    assert ((expected > 0) & (expected < V - 1)).sum() > 100
    assert (drawn.flatten() - expected).abs().max() <= 1


@pytest.mark.parametrize("V", [1, 2, 4, 8, 9, 20])
def test_the_look_ahead_takes_the_first_of_the_best_tokens(V):
    y = torch.randint(0, 3, (50, 6, V), generator=torch.Generator().manual_seed(0)).float()
    y[y == 0] = -INF
    x = torch.full((50, 6), V)
    expected = [[row.index(max(row)) for row in rows] for rows in y.tolist()]
    assert Masked(6, V, 4).estimate(x, y).tolist() == expected
