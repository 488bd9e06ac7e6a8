"""Particles that are joined, selected or follow given states keep what was computed for them."""

import pytest
import torch

from guided.core.particles import Particles
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.samplers import SVDD
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import Chain, gaussian

MODELS = [gaussian, lambda: Chain(L=3, V=3, K=4).model()]


def started(model, N=2, B=3):
    return model.start(Streams(0, range(B)), N).propose()


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("known", [(False, False), (True, False), (True, True)])
def test_joined_particles_have_the_outputs_of_their_parts(make, known):
    model = make()
    parts = [started(model), started(model, 3)]
    for part, computed in zip(parts, known, strict=True):
        if computed:
            _ = part.outputs
    before = model.denoiser.rows
    joined = Particles.join(parts)
    assert torch.equal(joined.x, torch.cat([part.x for part in parts], 1))
    y = joined.outputs.y[joined.outputs.index]
    assert model.denoiser.rows - before <= sum(3 * n for n, computed in zip((2, 3), known, strict=True) if not computed)
    torch.testing.assert_close(y, model.evaluate(joined.x, 1).y[model.evaluate(joined.x, 1).index])


def test_parts_of_one_set_are_joined_without_a_second_table():
    particles = started(gaussian())
    _ = particles.outputs
    one, other = (particles.take(torch.full((3, 1), n)) for n in (0, 1))
    assert Particles.join([one, other]).outputs.y is particles.outputs.y


def test_candidates_that_are_joined_keep_their_parents_outputs():
    """An untimed model: a joined candidate equal to its parent is not evaluated again."""
    chain = Chain(L=3, V=2, K=50)
    model = chain.model()
    particles = started(model, 4)
    _ = particles.outputs
    stayed = Particles.join([particles.follow(particles.x), particles.follow(particles.x)])
    before = model.denoiser.rows
    torch.testing.assert_close(
        stayed.outputs.y[stayed.outputs.index][:, :4], particles.outputs.y[particles.outputs.index]
    )
    assert model.denoiser.rows == before


def test_particles_follow_given_states():
    model = Chain(L=3, V=3, K=4).model()
    particles = started(model)
    x = particles.propose().x
    then = particles.follow(x)
    assert then.k == 2
    wanted = model.evaluate(x, 2)
    torch.testing.assert_close(then.outputs.y[then.outputs.index], wanted.y[wanted.index])


def test_particles_that_differ_are_not_joined():
    model = gaussian()
    for other in (model.start(Streams(0, range(3)), 2), started(model, B=2)):
        with pytest.raises(GuidedError, match="same requests and at the same step, given 3 requests at step 1, "):
            Particles.join([started(model), other])


@pytest.mark.parametrize("make", MODELS)
def test_requests_that_go_different_ways_draw_what_they_would_alone(make):
    """Some requests move on first, the others later: each ends where it does by itself."""
    value, sampler = PosteriorMean(lambda x: x.double().sum(-1)), SVDD(3)

    def moved(requests):
        return sampler.run(make().start(Streams(0, requests)), value).x

    particles = make().start(Streams(0, range(4)))
    _ = particles.outputs
    x = torch.empty(4, 1, *particles.x.shape[2:], dtype=particles.x.dtype)
    for some in ([2, 0], [3], [1]):
        x[some] = sampler.run(particles.select(some), value).x
    torch.testing.assert_close(x, moved(range(4)))
    torch.testing.assert_close(x[2:3], moved([2]))
