"""Tilt against exact enumeration: tokens drawn by their worth, and the law of SMC all the same."""

import math
from dataclasses import replace

import pytest
import torch

from guided.core.random import Streams
from guided.samplers import SMC, Tilt, tilt
from guided.samplers.tilt import worth
from guided.values.posterior_mean import PosteriorMean
from tests.samplers.test_smc import errors, unnormalised
from tests.toys.chains import Chain, gaussian
from tests.toys.laws import distance, frequencies, looking_ahead, tilted

ALPHA = 0.4


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.0},
        {"potential": "max", "threshold": 1.0, "rise": 0.0},
        {"resampling": "systematic", "gamma": 3.0, "rise": 0.0},
        {"target": 0.8, "every": 2, "resampling": "residual"},
    ],
)
def test_the_weighted_measure_is_unbiased_for_few_particles(chain, reward, options):
    """E[Z_hat sum_n W_n 1(x_n = x)] = p(x) exp(r(x) / alpha), whatever the tokens were drawn from."""
    measure = unnormalised(chain, reward, Tilt(3, ALPHA, draws=4, **options), 5000)
    target, Z = tilted(chain, reward, ALPHA)
    assert errors(measure, target * Z).abs().max() < 3.7
    assert distance(measure.mean(0) / measure.sum(1).mean(), target) < 0.02


def test_the_law_of_many_particles_is_the_tilted_one(chain, reward):
    target, Z = tilted(chain, reward, ALPHA)
    sampler = Tilt(4096, ALPHA, "max", "systematic", draws=4)
    end = sampler.run(chain.model(), looking_ahead(chain, reward), Streams(0, range(16)))
    assert distance(frequencies(chain, end.particles, end.log_w.softmax(1)), target) < 0.02
    assert abs(end.log_Z.mean() - math.log(Z)) < 2 * end.log_Z.std() / 4


def test_a_temperature_of_the_model_is_counted(reward):
    chain = Chain()
    chain.process = replace(chain.process, temperature=0.5)
    with_heat = Chain()
    with_heat.process, with_heat.conditionals = Chain().process, (2 * chain.conditionals).log_softmax(-1)
    measure = unnormalised(chain, reward, Tilt(3, ALPHA, draws=4), 5000)
    target, Z = tilted(with_heat, reward, ALPHA)
    assert errors(measure, target * Z).abs().max() < 3.7


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_worth_is_added_to_log_probabilities_at_the_models_temperature(monkeypatch, reward, temperature):
    """One step reveals all tokens, each from softmax(eta / T + gamma g / alpha)."""
    chain, g = Chain(K=1), torch.tensor([[0.3, -0.2], [0.0, 0.4], [-0.5, 0.0]]).double()
    chain.process = replace(chain.process, temperature=temperature)
    monkeypatch.setattr(tilt, "worth", lambda x, *rest: g.expand(*x.shape[:2], *g.shape))
    sampler, n = Tilt(1, ALPHA, rise=0.0, draws=1, gamma=1.5), 8000
    x = sampler(chain.model(), looking_ahead(chain, reward), Streams(0, range(n))).x[:, 0]
    p = (chain.conditionals[-1].double() / temperature + 1.5 * g / ALPHA).softmax(-1)
    torch.testing.assert_close(x.double().mean(0), p[:, 1], atol=4 * (0.25 / n) ** 0.5, rtol=0)


def test_tokens_are_drawn_by_their_worth(chain, reward):
    """Without weights the reward of the particles rises with gamma, and the weights of one draw are more alike."""
    value, mean, spread = looking_ahead(chain, reward), [], []
    for gamma in (0.0, 1.0):
        sampler = Tilt(1, ALPHA, threshold=0.0, rise=0.0, draws=16, gamma=gamma)
        end = sampler.run(chain.model(), value, Streams(0, range(4000)))
        mean.append(reward[chain.index(end.particles.x)].mean().item())
        spread.append(end.log_Z.std().item())
    assert mean[1] > mean[0] + 0.07
    assert spread[1] < 0.8 * spread[0]


def test_the_worth_of_tokens():
    """Two draws (0, 1) and (0, 0) with rewards 1 and 3, and one without: it counts as 1."""
    x = torch.tensor([[[[0, 1], [0, 0], [1, 1]]]])
    r = torch.tensor([[[1.0, 3.0, -1e100]]]).double()
    mean = 5 / 3
    expected = [[(4 - 2 * mean) / 2, 1 - mean, 0.0], [3 - mean, (2 - 2 * mean) / 2, 0.0]]
    torch.testing.assert_close(worth(x, r, 3, 0.0)[0, 0], torch.tensor(expected).double())
    shrunk = worth(x, r, 3, 1.0)[0, 0]
    torch.testing.assert_close(shrunk[0], torch.tensor([(4 - 2 * mean) / 3, (1 - mean) / 2, 0.0]).double())
    assert (worth(x, torch.full_like(r, -1e100), 3, 1.0) == 0).all()


def test_a_request_is_the_same_alone_and_among_others(chain, reward):
    sampler, value = Tilt(3, ALPHA, draws=4), looking_ahead(chain, reward)
    among = sampler(chain.model(), value, Streams(3, range(20))).x
    for i in (0, 7, 19):
        assert torch.equal(sampler(chain.model(), value, Streams(3, [i])).x[0], among[i])


def test_cost_no_more_network_rows_than_smc_and_n_calls_for_each_particle(chain):
    """Rows and calls are counted for one particle, which has no equals; equal draws are scored once."""
    scored = []
    value = PosteriorMean(lambda x: scored.append(len(x)) or torch.zeros(len(x)))
    rows = []
    for sampler in (SMC(1, rise=0.0), Tilt(1, draws=6)):
        model = Chain(L=4, V=2, K=4).model()
        sampler(model, value, Streams(0, [0]))
        rows.append(model.denoiser.rows)
    assert max(rows) <= 4
    assert scored[:4] == [1] * 4
    assert len(scored[4:]) == 5 and max(scored[4:]) <= 6 and scored[-1] == 1


def test_wrong_input():
    for options, message in (({"draws": 0}, "draws is 0"), ({"gamma": -1}, "gamma is -1"), ({"shrink": -1}, "shrink")):
        with pytest.raises(ValueError, match=message):
            Tilt(**options)
    with pytest.raises(ValueError, match="only masked models have logits"):
        Tilt()(gaussian(), PosteriorMean(lambda x: x[:, 0]), Streams(0, [0]))


def test_draws_and_rewards_go_with_their_particles_when_these_are_resampled(monkeypatch, chain, reward):
    """The clean sequences that tokens are judged by have the tokens that their particle shows."""
    drawn, resampled = [], []

    class Spy(Tilt):
        def tilted(self, particles, weights, g):
            x, r = drawn[-1]
            masked = particles.x[:, :, None] == chain.V
            assert ((x == particles.x[:, :, None]) | masked).all()
            torch.testing.assert_close(r, reward[chain.index(x)])
            resampled.append((particles.x[:, 1:] == particles.x[:, :-1]).all(-1).any().item() and not masked.all())
            return super().tilted(particles, weights, g)

    monkeypatch.setattr(tilt, "worth", lambda x, r, *rest: drawn.append((x, r)) or worth(x, r, *rest))
    Spy(8, 0.05, threshold=1.0, draws=4, rise=0.0)(chain.model(), looking_ahead(chain, reward), Streams(0, range(30)))
    assert any(resampled)
