"""Particle Gibbs against exact enumeration: two particles suffice, whatever guides them."""

import pytest
import torch

from guided.core.random import Streams
from guided.samplers import SMC, ParticleGibbs
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import gaussian
from tests.toys.laws import distance, looking_ahead, tilted

ALPHA, B = 0.4, 2500


class Noise:
    """A value that is a number drawn for each look-ahead, and at the end the reward."""

    def __init__(self, value, spread):
        self.value, self.spread, self.generator = value, spread, torch.Generator().manual_seed(1)

    def __call__(self, particles, alpha):
        if particles.done:
            return self.value(particles, alpha)
        return self.spread * torch.rand(particles.x.shape[:2], generator=self.generator).double()


def laws(chain, sampler, value, sweeps=(20, 36)):
    """The frequencies of the first sweep's samples, and those of later ones together."""
    streams, model, path, counts = Streams(0, range(B)), chain.model(), None, []
    for _ in range(sweeps[1]):
        path = sampler.sweep(model, value, streams, path)
        counts.append(torch.bincount(chain.index(path.x[chain.K]).flatten(), minlength=len(chain.states)) / B)
    return counts[0], torch.stack(counts[sweeps[0] :]).mean(0)


@pytest.mark.parametrize(
    "options",
    [
        {"potential": "max", "threshold": 1.0, "rise": 0.0},
        {"potential": "difference"},
        {"potential": "sum", "threshold": 0.9, "rise": 0.5, "target": 0.9},
    ],
)
def test_two_particles_have_the_tilted_law_after_enough_sweeps(chain, reward, options):
    target, _ = tilted(chain, reward, ALPHA)
    first, later = laws(chain, ParticleGibbs(2, ALPHA, **options), looking_ahead(chain, reward))
    assert distance(first, target) > 0.08
    assert distance(later, target) < 0.01


def test_the_path_keeps_its_own_values(chain, reward):
    """Values that are random must be those that the path was drawn by: drawn again they would change the law."""
    target, _ = tilted(chain, reward, ALPHA)
    sampler = ParticleGibbs(2, ALPHA, "difference", threshold=1.0, rise=0.0)
    assert distance(laws(chain, sampler, Noise(looking_ahead(chain, reward), 0.6), (26, 40))[1], target) < 0.015


def test_the_first_sweep_is_smc(chain, reward):
    value = looking_ahead(chain, reward)
    one, other = (
        sampler(chain.model(), value, Streams(0, range(50))).x
        for sampler in (ParticleGibbs(4, ALPHA, rounds=1), SMC(4, ALPHA, resampling="multinomial"))
    )
    assert torch.equal(one, other)


def test_paths_are_those_of_the_chain(chain, reward):
    """A token that was revealed stays, along the path that is drawn."""
    sampler, value, streams = ParticleGibbs(3, 0.1, threshold=1.0), looking_ahead(chain, reward), Streams(0, range(200))
    path = sampler.sweep(chain.model(), value, streams)
    path = sampler.sweep(chain.model(), value, streams, path)
    assert sorted(path.x) == [0, 1, 2, 3] and sorted(path.v) == [1, 2, 3]
    for k in range(3):
        shown = path.x[k] != chain.V
        assert torch.equal(path.x[k][shown], path.x[k + 1][shown])
    torch.testing.assert_close(path.v[3], reward[chain.index(path.x[3])])


def test_a_request_is_the_same_alone_and_among_others(chain, reward):
    sampler, value = ParticleGibbs(2, ALPHA), looking_ahead(chain, reward)
    among = sampler(chain.model(), value, Streams(3, range(20))).x
    for i in (0, 7, 19):
        assert torch.equal(sampler(chain.model(), value, Streams(3, [i])).x[0], among[i])


def test_cost_is_that_of_smc_for_each_sweep():
    model, scored = gaussian(10), []
    value = PosteriorMean(lambda x: scored.append(len(x)) or x[:, 0])
    ParticleGibbs(4, 1.0, rounds=3)(model, value, Streams(0, range(2)))
    assert model.denoiser.rows == 3 * 2 * 4 * 10
    assert sum(scored) == 3 * 2 * 4 * 9


@pytest.mark.parametrize(
    ("options", "message"),
    [({"N": 1}, "N is 1"), ({"rounds": 0}, "rounds is 0"), ({"resampling": "ssp"}, "it must be multinomial")],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        ParticleGibbs(**options)
