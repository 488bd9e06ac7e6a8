"""The process of graphs: closed forms, masks that stay with their graphs, and what a run costs."""

import math

import pytest
import torch

from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.graphs import Graphs, Noise
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.samplers import SVDD, BestOfN, Unguided
from guided.values.posterior_mean import PosteriorMean

VP, VE = Noise("VP", 0.1, 1.0), Noise("VE", 0.2, 1.0)
SIZES = (0, 0, 1, 2, 1)  # 2 to 4 of 4 places


def process(steps=12, **options):
    return Graphs(**{"sizes": SIZES, "features": 2, "nodes": VP, "edges": VE, "steps": steps, **options})


class Counting:
    """A denoiser that pulls to half of what it sees, and counts rows."""

    cost = 2

    def __init__(self, graphs):
        self.graphs, self.rows = graphs, 0

    def __call__(self, x, t):
        self.rows += len(x)
        nodes, edges = self.graphs.split(x)
        return self.graphs.join(0.5 * nodes, 0.5 * edges, x[..., -1])


def model(steps=12, **options):
    graphs = process(steps, **options)
    return Diffusion(Counting(graphs), graphs, Codec(lambda x: x))


def atoms(x):
    return x[..., -1].sum(-1)


def is_graph(graphs, x):
    """Symmetric, without loops, and 0 where the mask is: whatever happened to its particle."""
    nodes, edges = graphs.split(x)
    mask = x[..., -1]
    both = mask[..., None] * mask[..., None, :] * (1 - torch.eye(mask.shape[-1]))
    prefix = mask == (torch.arange(mask.shape[-1]) < mask.sum(-1, keepdim=True))
    return bool(
        prefix.all()
        and (edges == edges.transpose(-1, -2)).all()
        and (edges * (1 - both) == 0).all()
        and (nodes * (1 - mask[..., None]) == 0).all()
    )


def test_sizes_are_drawn_as_often_as_they_occur():
    n = atoms(process().prior(1, Streams(0, range(4000)))).flatten()
    counts = torch.bincount(n.long(), minlength=5) / len(n)
    torch.testing.assert_close(counts, torch.tensor(SIZES) / 4, atol=0.03, rtol=0)


def test_the_chain_draws_the_data():
    """Features N(0, 1) and edges N(1, 1) with their exact clean means: masks are whole, so all entries count. The
    corrector's step is that of the batch: of few entries, a size that depends on the state would bend the law.
    """
    edges = Noise("VE", 0.05, 20.0)
    graphs = process(400, sizes=(0, 0, 0, 1), edges=edges, snr=0.05, damping=1.0, by_batch=True)

    def exact(x, t):
        nodes, edges = graphs.split(x)
        mean, _ = (part[:, None, None] for part in graphs.nodes.marginal(t))
        variance = graphs.edges.marginal(t)[1][:, None, None] ** 2
        return graphs.join(mean * nodes, (edges + variance) / (1 + variance) * (1 - torch.eye(3)), x[..., -1])

    x = Unguided()(Diffusion(exact, graphs), None, Streams(0, range(3000))).x[:, 0]
    nodes, edges = graphs.split(x)
    i, j = torch.triu_indices(3, 3, 1)
    assert nodes.mean().item() == pytest.approx(0, abs=0.03)
    assert nodes.std().item() == pytest.approx(1, abs=0.03)
    assert edges[:, i, j].mean().item() == pytest.approx(1, abs=0.05)
    assert edges[:, i, j].std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("noise", [VP, VE])
def test_noise_has_the_marginal(noise):
    """The rate of a variance-preserving noise integrates to -2 log m; an exploding one grows by a constant factor."""
    for t in (1e-4, 0.3, 1.0):
        mean, std = noise.at(t)
        if noise.kind == "VP":
            integral = 0.1 * t + 0.9 * t**2 / 2
            assert mean == pytest.approx(math.exp(-integral / 2))
            assert std**2 + mean**2 == pytest.approx(1)
        else:
            assert (mean, std) == (1, pytest.approx(0.2 * 5**t))


@pytest.mark.parametrize("k", [0, 4, 11])
def test_noising_has_the_marginal(k):
    graphs = process(sizes=(0, 0, 0, 0, 1))
    clean = graphs.join(torch.full((2000, 1, 4, 2), 3.0), torch.full((2000, 1, 4, 4), 2.0), torch.ones(2000, 1, 4))
    x = graphs.noise(clean, k, Streams(0, range(2000)))
    nodes, edges = graphs.split(x)
    mean, std = graphs.nodes.at(graphs.time(k))
    assert nodes.mean().item() == pytest.approx(3 * mean, abs=0.05)
    assert nodes.std().item() == pytest.approx(std, abs=0.02)
    assert edges[..., 0, 1].std().item() == pytest.approx(graphs.edges.at(graphs.time(k))[1], rel=0.06)
    assert torch.equal(edges, edges.transpose(-1, -2))
    assert torch.equal(graphs.noise(clean, graphs.steps, Streams(0, range(2000))), clean)


def test_the_last_step_has_no_noise():
    graphs = process()
    assert [graphs.stochastic(k) for k in range(graphs.steps)] == [True] * 11 + [False]
    x = graphs.prior(1, Streams(0, range(3)))
    both = graphs.propose(x, 0.5 * x, 11, 2, Streams(1, range(3)))
    assert torch.equal(both[:, 0], both[:, 1])


@pytest.mark.parametrize("sampler", [Unguided(), BestOfN(3), SVDD(M=4), SVDD(M=3, alpha=0.5, every=2)])
def test_masks_stay_with_their_graphs(sampler):
    guide = model()
    start = atoms(guide.process.prior(getattr(sampler, "N", 1), Streams(5, range(6))))
    value = PosteriorMean(lambda x: -atoms(x) + guide.process.split(x)[0].sum((-1, -2)).tanh() / 100)
    x = sampler(guide, value, Streams(5, range(6))).x
    assert is_graph(guide.process, x)
    assert torch.equal(atoms(x[:, 0]), start.min(1).values if isinstance(sampler, BestOfN) else start[:, 0])


def test_a_request_does_not_depend_on_its_neighbours():
    """By default; where the corrector's step is a mean over the batch it does."""
    for by_batch in (False, True):
        whole, alone = (
            Unguided()(model(by_batch=by_batch), None, Streams(0, requests)).x for requests in ([0, 1, 2], [1])
        )
        assert torch.allclose(whole[1], alone[0], atol=1e-6) is not by_batch


@pytest.mark.parametrize("every", [1, 2])
def test_a_candidate_of_a_scale_costs_four_network_calls(every):
    """Correcting and predicting with look-aheads at both steps; the published order takes six. With `every=2` only
    the corrected states are compared, which takes two, and two more for the particle that goes on.
    """
    B, M, K = 2, 3, 6
    guide = model(2 * K)
    SVDD(M=M, every=every)(guide, PosteriorMean(atoms), Streams(0, range(B)))
    calls = 2 * B * (1 + M * (2 * K - 1)) if every == 1 else 2 * B * (K + M * K)
    assert guide.monitor.network_rows == calls == 2 * guide.denoiser.rows
    assert calls <= (4 * M * K if every == 1 else 2 * (M + 1) * K) * B


def test_another_number_of_steps():
    graphs = process()
    assert (graphs.with_steps(40).steps, graphs.with_steps(40).scales) == (40, 20)
    assert graphs.distribution == graphs.with_steps(40).distribution
    assert graphs.distribution != process(snr=0.1).distribution
    times = [graphs.time(k) for k in range(graphs.steps + 1)]
    assert times[::2] == [*times[1::2], 0.0]
    assert times == sorted(times, reverse=True)


def test_a_graph_of_one_node_has_no_edges_to_correct():
    x = Unguided()(model(sizes=(0, 1, 0, 0, 0)), None, Streams(0, range(3))).x
    assert x.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 5}, "must be even"),
        ({"steps": 12, "nodes": Noise("VP", 0.1, 6.5)}, "needs at least 14"),
        ({"sizes": (1, 2)}, "0 for no nodes"),
        ({"sizes": (0, 0)}, "above 0"),
        ({"sizes": (0, -1, 2)}, "weights"),
        ({"features": 0}, "features is 0"),
        ({"snr": -1.0}, "snr is -1"),
        ({"damping": math.nan}, "damping is nan"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(GuidedError, match=message):
        process(**options)


@pytest.mark.parametrize(
    ("given", "message"), [(("VX", 1, 2), "one of VP, VE"), (("VP", 1, 1), "increase"), (("VE", 0, 1), "above 0")]
)
def test_wrong_noise(given, message):
    with pytest.raises(GuidedError, match=message):
        Noise(*given)


def test_what_it_does_not_have():
    graphs = process()
    x = graphs.prior(1, Streams(0, [0]))
    with pytest.raises(GuidedError, match="draws is 2"):
        graphs.draw(x, x, 2, Streams(0, [0]))
    with pytest.raises(GuidedError, match="no tokens"):
        graphs.pinned(torch.zeros(4, dtype=torch.long))
    assert graphs.select([0]) is graphs
