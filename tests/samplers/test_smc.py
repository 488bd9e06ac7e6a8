"""SMC against exact enumeration: every choice of potentials, resampling and temperatures has the same exact law."""

import itertools
import math

import pytest
import torch

from guided.core.random import Streams
from guided.core.resampling import SCHEMES
from guided.samplers import SMC, ParticleGibbs, sampler_from_dict, sampler_to_dict
from guided.samplers.weights import POTENTIALS, Weights
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import gaussian
from tests.toys.laws import distance, drawn, frequencies, looking_ahead, tilted

ALPHA = 0.4
TEMPERATURES = {"full": {"rise": 0.0}, "rising": {"rise": 1.0}, "bisected": {"rise": 0.5, "target": 0.8}}


def unnormalised(chain, reward, sampler, B, seed=0, draws=1):
    """For each request, Z_hat times the weighted share of each state: its mean is p(x) exp(r(x) / alpha), for any N."""
    end = sampler.run(chain.model(), looking_ahead(chain, reward, draws), Streams(seed, range(B)))
    w = end.log_w.softmax(1) * end.log_Z.exp()[:, None]
    return torch.zeros(B, len(chain.states), dtype=torch.float64).scatter_add(1, chain.index(end.particles.x), w)


def errors(measure, expected):
    """Of each state, and of the normaliser, in standard errors."""
    measure = torch.cat([measure, measure.sum(1, keepdim=True)], 1)
    expected = torch.cat([expected, expected.sum()[None]])
    spread = measure.std(0) / len(measure) ** 0.5
    return ((measure.mean(0) - expected) / spread)[spread > 0]


def choices():
    yield from itertools.product(POTENTIALS, ["ssp"], [0.5, 1.0], TEMPERATURES)
    yield from itertools.product(["max"], [name for name in SCHEMES if name != "ssp"], [0.5, 1.0], TEMPERATURES)


@pytest.mark.parametrize(("potential", "resampling", "threshold", "temperature"), [*choices()])
def test_the_weighted_measure_is_unbiased_for_few_particles(
    chain, reward, potential, resampling, threshold, temperature
):
    """E[Z_hat sum_n W_n 1(x_n = x)] = p(x) exp(r(x) / alpha) already for N = 3."""
    sampler = SMC(3, ALPHA, potential, resampling, threshold, **TEMPERATURES[temperature])
    measure = unnormalised(chain, reward, sampler, 6000)
    target, Z = tilted(chain, reward, ALPHA)
    assert errors(measure, target * Z).abs().max() < 3.7  # of nine numbers
    assert distance(measure.mean(0) / measure.sum(1).mean(), target) < 0.02


@pytest.mark.parametrize(
    ("potential", "resampling"), [("difference", "ssp"), ("sum", "ssp"), *(("max", name) for name in SCHEMES)]
)
def test_the_law_of_many_particles_is_the_tilted_one(chain, reward, potential, resampling):
    """N = 4096: total variation at most .02, and log Z of all within two standard errors."""
    target, Z = tilted(chain, reward, ALPHA)
    found: list[torch.Tensor] = []
    thresholds = [0.5, 1.0] if resampling != "ssp" else [1.0]  # it goes through the particles one by one
    for threshold, temperature in itertools.product(thresholds, TEMPERATURES.values()):
        sampler = SMC(4096, ALPHA, potential, resampling, threshold, **temperature)
        end = sampler.run(chain.model(), looking_ahead(chain, reward), Streams(len(found), range(8)))
        assert distance(frequencies(chain, end.particles, end.log_w.softmax(1)), target) < 0.02
        found.append(end.log_Z)
    log_Z = torch.cat(found)
    assert abs(log_Z.mean() - math.log(Z)) < 2 * log_Z.std() / len(log_Z) ** 0.5


def test_the_error_of_one_draw_falls_as_one_over_n(chain, reward):
    target, _ = tilted(chain, reward, ALPHA)
    sampler = lambda N: SMC(N, ALPHA, "max")  # noqa: E731
    error = [distance(drawn(chain, sampler(N), looking_ahead(chain, reward), 20_000), target) for N in (1, 4, 16)]
    assert error[0] == pytest.approx(distance(chain.distribution(), target), abs=0.01)
    assert error[0] > 2.5 * error[1] > 5 * error[2]


def test_one_particle_is_the_model(chain, reward):
    assert distance(drawn(chain, SMC(1), looking_ahead(chain, reward), 20_000), chain.distribution()) < 0.01


def test_values_of_several_draws_leave_the_law(chain, reward):
    """A value that is random itself: the reward at the end is what counts."""
    target, Z = tilted(chain, reward, ALPHA)
    measure = unnormalised(chain, reward, SMC(3, ALPHA, "sum"), 6000, draws=3)
    assert errors(measure, target * Z).abs().max() < 3.7


def test_a_mixture_of_gaussians():
    """Reward x: p(x) exp(x / alpha) of N(0, 1) is N(1 / alpha, 1), and Z = exp(1 / (2 alpha^2)); the chain is exact
    at K = 25 up to its discretisation, which the unguided samples have too.
    """
    value, B = PosteriorMean(lambda x: x[:, 0]), 40
    end = SMC(256, 2.0, "difference").run(gaussian(mean=(0.0, 5.0)), value, Streams(0, range(B)))
    w = end.log_w.softmax(1)
    free = SMC(256, 2.0, threshold=0.0, interval=(0.0, 1e-9)).run(gaussian(), value, Streams(1, range(B))).particles.x
    x, spread = end.particles.x, free[..., 0].std().item()
    assert (w * x[..., 0]).sum(1).mean().item() == pytest.approx(spread**2 / 2, abs=0.03)
    assert (w * x[..., 1]).sum(1).mean().item() == pytest.approx(5.0, abs=0.03)
    assert end.log_Z.mean().item() == pytest.approx(spread**2 / 8, abs=0.02)


@pytest.mark.parametrize("sampler", [SMC(4, ALPHA), SMC(4, ALPHA, "sum", "multinomial", target=0.7)])
def test_a_request_is_the_same_alone_and_among_others(chain, reward, sampler):
    value, streams = looking_ahead(chain, reward), Streams(3, range(20))
    among = sampler(chain.model(), value, streams).x
    for i in (0, 7, 19):
        assert torch.equal(sampler(chain.model(), value, Streams(3, [i])).x[0], among[i])


def test_cost_in_network_rows_and_reward_calls():
    """N K rows a request; N (K - 1) calls where the last step has no noise, and fewer where fewer steps look ahead."""
    B, N, K = 3, 4, 25
    for options, looks in (({}, K - 1), ({"every": 4}, 6), ({"interval": (0.5, 1.0)}, 11)):
        model, scored = gaussian(K), []
        value = PosteriorMean(lambda x, scored=scored: scored.append(len(x)) or x[:, 0])
        SMC(N, 1.0, **options)(model, value, Streams(0, range(B)))
        assert model.denoiser.rows == B * N * K
        assert sum(scored) == B * N * looks


def test_steps_without_noise_copy_no_particle():
    """Eta = 0: eight particles stay eight samples, chosen among at the end only."""
    model, scored = gaussian(10, eta=0.0), []
    value = PosteriorMean(lambda x: scored.append(len(x)) or x[:, 0])
    end = SMC(8, 0.1).run(model, value, Streams(0, [0]))
    assert len(end.particles.x[0].unique(dim=0)) == 8
    assert scored == [8]


@pytest.mark.parametrize("worst", [math.nan, -math.inf])
def test_samples_without_a_reward_are_lost_and_requests_of_such_only_go_on(chain, reward, worst):
    """Where no look-ahead has a value the chain goes on as the model, and is weighed by what comes."""
    blank = looking_ahead(chain, torch.full_like(reward, worst))
    end = SMC(4, ALPHA).run(chain.model(), blank, Streams(0, range(20_000)))
    assert distance(frequencies(chain, end.particles.take(torch.zeros(20_000, 1).long())), chain.distribution()) < 0.01
    assert (end.log_Z == -math.inf).all()
    some = reward.clone()
    some[chain.index(chain.clean)[::2]] = worst  # those that end in 0
    x = SMC(16, ALPHA)(chain.model(), looking_ahead(chain, some), Streams(0, range(500))).x
    assert (x[..., -1] == 1).float().mean() > 0.99


@pytest.mark.parametrize("potential", sorted(POTENTIALS))
def test_look_aheads_without_a_value_leave_the_law_as_it_is(chain, reward, potential):
    """Particles whose second token is 0 have no value on the way: not one of them is lost for it."""
    ahead = looking_ahead(chain, reward)

    def value(particles, alpha):
        v = ahead(particles, alpha)
        return v if particles.done else v.where(particles.x[..., 1] != 0, -math.inf)

    target, Z = tilted(chain, reward, ALPHA)
    for threshold in (0.9, 1.0):
        end = SMC(3, ALPHA, potential, threshold=threshold).run(chain.model(), value, Streams(0, range(6000)))
        w = end.log_w.softmax(1) * end.log_Z.exp()[:, None]
        measure = torch.zeros(6000, len(chain.states), dtype=torch.float64)
        assert errors(measure.scatter_add(1, chain.index(end.particles.x), w), target * Z).abs().max() < 3.7
    gibbs = ParticleGibbs(2, ALPHA, potential, threshold=0.9, rounds=25)
    assert distance(drawn(chain, gibbs, value, 6000), target) < 0.03


@pytest.mark.parametrize("sampler", [SMC(5, 0.2, threshold=1.0), ParticleGibbs(5, 0.2, threshold=1.0, rounds=1)])
def test_rewards_count_after_look_aheads_of_which_none_had_a_value(chain, reward, sampler):
    """Five equal weights have an effective sample size just below five: there is nothing to resample by."""

    def at_the_end(particles, alpha):
        blank = torch.full(particles.x.shape[:2], -math.inf).double()
        return reward[chain.index(particles.x)] if particles.done else blank

    assert distance(drawn(chain, sampler, at_the_end, 6000), tilted(chain, reward, 0.2)[0]) < 0.16


def test_the_temperature_is_lowered_just_so_far():
    weights = Weights.equal(2, 4).weighed(torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.1]]).double(), 5.0, 3.0)
    w = weights.log_w.softmax(1)
    torch.testing.assert_close(1 / w.square().sum(1), torch.tensor([3.0, 3.8]).double(), atol=0.1, rtol=0)
    assert 1 / w[0].square().sum() == pytest.approx(3.0, abs=1e-6)
    low = torch.tensor([True, False])
    after = weights.resampled(torch.tensor([[0, 3, 3, 3], [0, 1, 2, 3]]), low)
    assert (after.log_w[0] == 0).all() and torch.equal(after.log_w[1], weights.log_w[1])
    assert weights.rise[1].item() == 5.0 > weights.rise[0].item()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"N": 0}, "N is 0"),
        ({"alpha": 0}, "alpha is 0"),
        ({"potential": "mx"}, "potential is 'mx'; did you mean 'max'|it is one of difference, max, sum"),
        ({"resampling": "all"}, "one of ssp, systematic, residual, stratified, multinomial"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"target": -1}, "target is -1"),
        ({"every": 0}, "every is 0"),
        ({"interval": (1, 0)}, "interval is"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        SMC(**options)


def test_it_is_rebuilt_from_plain_values():
    sampler = SMC(4, 0.5, "max", "residual", interval=(0.1, 0.9))
    assert sampler_from_dict(sampler_to_dict(sampler)) == sampler
