"""Samplers on a mixture of Gaussians: a linear reward tilts it to another mixture, known in closed form."""

import itertools

import pytest
import torch

from guided.core.random import Streams
from guided.samplers import SMC, SVDD, ParticleGibbs, Refine, Tree
from guided.samplers.gradient import TDS
from guided.samplers.particle_gibbs import Path
from guided.samplers.weights import POTENTIALS
from guided.scoring import registry
from guided.values.posterior_mean import PosteriorMean
from tests.toys.laws import distance
from tests.toys.mixtures import ALPHA, Line, SoftValue, closed_form, mixture, reward, shares
from tests.toys.smooth import smooth

VALUE = PosteriorMean(reward)


@pytest.fixture(scope="module")
def line():
    """Of few steps: its own law, which samplers are held to, is by quadrature."""
    return Line(mixture())


def test_the_chain_nears_the_closed_form_as_steps_become_many(line):
    """The mixture of weights w exp(mu / alpha) and means mu + s^2 / alpha."""
    wanted, log_Z = closed_form()
    found, of_many = Line(mixture(40)).law()
    assert distance(line.law()[0], wanted) > 2.5 * distance(found, wanted)
    assert distance(found, wanted) < 0.065 and of_many == pytest.approx(log_Z, abs=0.065)
    assert distance(line.law_given_start(), line.law()[0]) < 1e-4  # x_0 says nothing of the reward


@pytest.mark.parametrize(
    ("potential", "options"),
    [
        *itertools.product(POTENTIALS, [{"rise": 3.0, "threshold": 1.0}, {"rise": 0.5, "target": 0.8}]),
        *itertools.product(["difference", "max"], [{"rise": 0.0, "threshold": 1.0}, {"rise": 1.0}]),
    ],
)
def test_smc_has_the_tilted_law(line, potential, options):
    """N = 4096: total variation at most .02 on thirteen bins, and log Z of all within three standard errors."""
    wanted, log_Z = line.law()
    sampler = SMC(4096, ALPHA, potential, "systematic", **options)
    end = sampler.run(line.model, VALUE, Streams(0, range(6)))
    assert distance(shares(end.particles.x, end.log_w.softmax(1)), wanted) < 0.02
    assert abs(end.log_Z.mean() - log_Z) < 3 * end.log_Z.std() / 6**0.5


def test_tds_has_the_tilted_law(line, monkeypatch):
    monkeypatch.setattr(registry, "_table", dict(registry._table))
    wanted, log_Z = line.law()
    end = TDS(1024, ALPHA, resampling="systematic").run(line.model, smooth(reward), Streams(0, range(8)))
    assert distance(shares(end.particles.x, end.log_w.softmax(1)), wanted) < 0.02
    assert abs(end.log_Z.mean() - log_Z) < 3 * end.log_Z.std() / 8**0.5


@pytest.mark.parametrize("options", [{"threshold": 1.0}, {"threshold": 0.9, "rise": 0.0, "potential": "max"}])
def test_sweeps_of_two_particles_leave_the_tilted_law_as_it_is(line, options):
    """From paths that have it: unguided ones, drawn by their weights. From others it takes many sweeps."""
    sampler, n, wanted = ParticleGibbs(2, ALPHA, **options), 6000, line.law()[0]
    particles, every = line.model.start(Streams(1, range(8 * n))), Path()
    while not particles.done:
        every.x[particles.k] = particles.x
        particles = particles.propose()
        if particles.k in sampler.looks(line.model.process):
            every.v[particles.k] = sampler.value(particles, VALUE)
    every.x[line.K], r = particles.x, every.v[line.K][:, 0]
    index = (r / ALPHA).exp().multinomial(n, replacement=True, generator=torch.Generator().manual_seed(0))
    path = Path(*({k: z[index] for k, z in part.items()} for part in (every.x, every.v)))
    before, streams, found = path.x[line.K], Streams(0, range(n)), []
    for _ in range(5):
        path = sampler.sweep(line.model, VALUE, streams, path)
        found.append(shares(path.x[line.K]))
    assert (path.x[line.K] != before).float().mean() > 0.4
    assert distance(torch.stack(found[2:]).mean(0), wanted) < 0.02


@pytest.mark.parametrize("N", [1, 2])
def test_suffixes_have_the_tilted_law(line, N):
    rounds = 18 if N == 1 else 12
    sampler = Refine(rounds, N, ALPHA, "suffix", level=(1.0, 0.75, 0.5) * (rounds // 3))
    x = sampler(line.model, VALUE, Streams(0, range(5000))).x
    assert distance(shares(x), line.law()[0]) < 0.025


def test_trees_have_the_tilted_law():
    """Of three steps: a tree's law is computed, as softmax(v / alpha) over the children of each node."""
    line = Line(mixture(3))
    found = []
    for N in (2, 120):
        roots, _ = Tree(N, ALPHA, c=4.0).trees(line.model, VALUE, Streams(0, range(30)))
        x, p = [], []
        stack = [(root, 1.0 / len(roots)) for root in roots]
        while stack:
            node, weight = stack.pop()
            if not node.children:
                x.append(node.x)
                p.append(weight)
            v = torch.tensor([child.v for child in node.children], dtype=torch.float64)
            stack += zip(node.children, (weight * (v / ALPHA).softmax(0)).tolist(), strict=True)
        found.append(distance(shares(torch.stack(x)[None], torch.tensor([p]).double()), line.law()[0]))
    assert found[1] < 0.03 < found[0], found


def test_svdd_with_the_exact_value_has_the_tilted_law_given_the_start(line):
    """As M grows; x_0 is drawn from the prior."""
    found = [
        distance(shares(SVDD(M, ALPHA)(line.model, SoftValue(line), Streams(0, range(5000))).x), line.law_given_start())
        for M in (1, 4, 32)
    ]
    assert found[0] > 0.2 > found[1] > 0.03 > found[2], found
