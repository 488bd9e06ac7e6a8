"""The Gaussian process against closed forms."""

import math

import pytest
import torch

from guided.core.gaussian import Gaussian
from guided.core.random import Streams
from guided.samplers import SVDD, Unguided
from guided.values.posterior_mean import PosteriorMean
from tests.toys.chains import gaussian

N = 4000


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_unguided_samples_are_the_data(eta, flow):
    """With the exact denoiser of N(mean, I) every eta samples the data's distribution, and so does a rectified flow."""
    model = gaussian(200, eta, flow, mean=(1.0, -2.0))
    x = Unguided()(model, None, Streams(0, range(N))).x[:, 0]
    torch.testing.assert_close(x.mean(0), torch.tensor([1.0, -2.0]), atol=0.07, rtol=0)
    torch.testing.assert_close(x.T.cov(), torch.eye(2), atol=0.08, rtol=0)


def test_step_is_ddpms_posterior():
    """At eta = 1 a step is q(x_s | x_t, y), by Bayes' rule from the two marginals."""
    a_t, a_s = 0.6, 0.9
    s_t, s_s = math.sqrt(1 - a_t**2), math.sqrt(1 - a_s**2)
    process = Gaussian((1,), [a_t, a_s, 1.0], [s_t, s_s, 0.0], [2, 1, 0])
    x, y = torch.full((N, 1, 1), 0.7), torch.full((N, 1, 1), -0.4)
    step = process.propose(x, y, 0, 10, Streams(0, range(N))).flatten()
    ratio = a_t / a_s
    noise = s_t**2 - ratio**2 * s_s**2  # of x_t given x_s
    precision = 1 / s_s**2 + ratio**2 / noise
    mean = (a_s * -0.4 / s_s**2 + ratio * 0.7 / noise) / precision
    assert step.mean().item() == pytest.approx(mean, abs=0.01)
    assert step.std().item() == pytest.approx(precision**-0.5, abs=0.01)
    assert process.std(0) == pytest.approx(precision**-0.5)


def test_flow_without_noise_is_eulers_step():
    process = Gaussian((1,), [0.0, 0.4, 1.0], [1.0, 0.6, 0.0], [1.0, 0.6, 0.0], eta=0.0)
    x, y = torch.tensor([[[0.5]]]), torch.tensor([[[2.0]]])
    velocity = x - y  # d x / d t of x = (1 - t) y + t eps at t = 1
    torch.testing.assert_close(process.propose(x, y, 0, 1, Streams(0, [0])), x - 0.4 * velocity)
    torch.testing.assert_close(process.propose(x, y, 1, 1, Streams(0, [0])), y)


def test_the_guided_distribution_has_the_closed_form():
    """Data N(0, 1), reward r(x) = x: the tilted distribution is N(1 / alpha, 1). The exact soft value is linear in
    x_k; the look-ahead's value differs from it by a constant of k alone, so SVDD with many candidates samples it.
    """
    model = gaussian(100)
    x = SVDD(M=64, alpha=1.0)(model, PosteriorMean(lambda x: x[:, 0]), Streams(0, range(N))).x[:, 0]
    assert x[:, 0].mean().item() == pytest.approx(1.0, abs=0.07)
    assert x[:, 0].std().item() == pytest.approx(1.0, abs=0.06)
    assert x[:, 1].mean().item() == pytest.approx(0.0, abs=0.07)


def test_noise_has_the_marginal():
    process = gaussian(10).process
    x = process.noise(torch.full((N, 1, 2), 3.0), 4, Streams(0, range(N)))
    assert x.mean().item() == pytest.approx(3 * process.alphas[4], abs=0.04)
    assert x.std().item() == pytest.approx(process.sigmas[4], abs=0.03)


def test_arrays_of_any_family():
    edm = Gaussian((1,), [1, 1, 1], [2, 1, 0], [2, 1, 0])  # data of unit variance under noise of 2
    assert edm.prior(1, Streams(0, range(N))).std().item() == pytest.approx(math.sqrt(5), abs=0.08)
    assert edm.std(0) == pytest.approx(math.sqrt(1 / 4 * (4 - 1)))  # sigma_up of ancestral samplers
    assert Gaussian((1,), [1, 1, 1], [2, 1, 0], [2, 1, 0], eta=0.5).std(0) == pytest.approx(edm.std(0) / 2)


def test_another_grid():
    def grid(K):
        times = [1 - k / K for k in range(K + 1)]
        return [1 - t for t in times], times, times

    process = Gaussian((1,), *grid(4), grid=grid)
    assert process.with_steps(7).steps == 7 and process.with_steps(7).time(1) == pytest.approx(6 / 7)


def test_wrong_input():
    with pytest.raises(ValueError, match="at the end 0 or more"):
        Gaussian((1,), [1, 1], [1, -0.5], [1, 0])
    with pytest.raises(ValueError, match="same number"):
        Gaussian((1,), [0, 1], [1, 0.5, 0], [1, 0])
    with pytest.raises(ValueError, match="must decrease"):
        Gaussian((1,), [1, 1, 1], [1, 2, 0], [2, 1, 0])
    with pytest.raises(ValueError, match=r"eta is 1\.5"):
        gaussian(eta=1.5)
    with pytest.raises(ValueError, match="eta > 0"):
        SVDD(M=2)(gaussian(eta=0.0), PosteriorMean(lambda x: x[:, 0]), Streams(0, [0]))
    with pytest.raises(ValueError, match="no grid"):
        gaussian(5).with_steps(7)
    with pytest.raises(ValueError, match="draws is 2"):
        SVDD()(gaussian(), PosteriorMean(lambda x: x[:, 0], draws=2), Streams(0, [0]))
