"""The published networks and steps, against outputs of the reference code; only where these lie beside the checkout."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch

import guided
from guided.core.graphs import Graphs, Noise
from guided.errors import GuidedError

ASSETS = Path(__file__).resolve().parents[4] / "shared/assets"
needs_assets = pytest.mark.skipif(
    not (ASSETS / "gdss").is_dir() or not (ASSETS / "parity").is_dir(), reason="no published files beside the checkout"
)
pytestmark = needs_assets


def arrays(name):
    return {key: torch.from_numpy(value) for key, value in np.load(ASSETS / "parity" / name).items()}


def model(name="gdss_zinc250k_v2", **options):
    return guided.load(ASSETS / "gdss" / f"{name}.pth", **options)


class Given:
    """Streams whose normal numbers are those of the reference."""

    device = torch.device("cpu")

    def __init__(self, nodes, edges):
        i, j = torch.triu_indices(edges.shape[-1], edges.shape[-1], 1)
        self.numbers = torch.cat([nodes.flatten(1), edges[:, i, j]], 1)

    def normal(self, *shape):
        return self.numbers.view(-1, *shape)


@dataclass(frozen=True)
class At(Graphs):
    """A process whose scales have one time."""

    t: float = 0.0

    def time(self, k):
        return self.t


def off_diagonal(x):
    return x * (1 - torch.eye(x.shape[-1]))


def test_networks():
    given = arrays("gdss_zinc250k_v2_parity.npz")
    net = model().denoiser.net
    with torch.no_grad():
        nodes, edges = net(given["x"], given["adj"], given["flags"])
    torch.testing.assert_close(nodes, given["net_x"], atol=1e-4, rtol=0)
    torch.testing.assert_close(edges, given["net_adj"], atol=1e-4, rtol=0)


def test_layers():
    """A wrong layer may hide in a final perceptron: intermediate outputs of the first two graphs, off the diagonal."""
    from guided.nets.gdss import Pairs, powers

    given = {key: value[:2] if value.ndim else value for key, value in arrays("gdss_zinc250k_v2_parity.npz").items()}
    net, flags = model().denoiser.net.adj, given["flags"]
    pairs = Pairs(flags)
    x, dense = given["x"], powers(given["adj"], 2)
    torch.testing.assert_close(dense, given["pow_adj_first2"], atol=1e-4, rtol=0)
    edges = pairs.pick(dense)
    with torch.no_grad():
        for i, layer in enumerate(net.layers):
            x, edges = layer(x, edges, flags, pairs)
            dense = pairs.spread(edges)
            torch.testing.assert_close(x, given[f"inter_neta_layer{i}_x"], atol=1e-4, rtol=0)
            torch.testing.assert_close(dense, off_diagonal(given[f"inter_neta_layer{i}_adj"]), atol=1e-4, rtol=0)


def test_scores():
    """The clean means give the reference's scores back. At time 1e-4 its own standard deviation is .2 % off."""
    given, guide = arrays("gdss_zinc250k_v2_parity.npz"), model()
    process = guide.process
    rows = process.join(given["x"], given["adj"], given["flags"])
    with torch.no_grad():
        clean = process.split(guide.denoiser(rows, given["t"]))
    for noise, state, y, wanted in zip(
        (process.nodes, process.edges), process.split(rows), clean, (given["score_x"], given["score_adj"]), strict=True
    ):
        mean, std = (part[:, None, None] for part in noise.marginal(given["t"].double()))
        score = (mean * y - state) / std**2
        torch.testing.assert_close(score[:-1].float(), wanted[:-1], atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(score[-1].float(), wanted[-1], atol=2e-2, rtol=5e-3)


@pytest.mark.parametrize("name", ["t1", "t2"])
def test_steps(name):
    """A corrector's and a predictor's step, with the reference's noise and its step size, a mean over the batch."""
    given = arrays(f"gdss_zinc250k_v2_pcstep_{name}.npz")
    guide = model(by_batch=True, snr=float(given["snr"]), damping=float(given["scale_eps"]))
    mask, at = given["flags"], float(given["t"])
    process = At(**{field.name: getattr(guide.process, field.name) for field in fields(guide.process)}, t=at)
    i = process.scales - 1 - int(at * (process.scales - 1))  # the reference rounds times between its scales down
    x = process.join(given["x"], given["adj"], mask)
    for k, step in ((2 * i, "corr"), (2 * i + 1, "pred")):
        t = torch.full((len(x),), process.time(k))
        with torch.no_grad():
            y = guide.denoiser(x, t)
        drawn = Given(given[f"z_{step}_x"], given[f"z_{step}_adj"])
        x = process.propose(x[:, None], y[:, None], k, 1, drawn)[:, 0]
        nodes, edges = process.split(x)
        torch.testing.assert_close(nodes, given[f"{step}_x"], atol=1e-4, rtol=0)
        torch.testing.assert_close(edges, given[f"{step}_adj"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("scales", [5, 200, 1000])
def test_tables(scales):
    """The numbers of each scale; the reference's index runs from data to noise."""
    given = arrays("gdss_sde_tables.npz")
    process = Graphs((0, 1.0), 1, Noise("VP", 0.1, 1.0), Noise("VE", 0.2, 1.0), steps=2 * scales)
    table = {key.removeprefix(f"N{scales}_"): v for key, v in given.items() if key.startswith(f"N{scales}_")}
    for i in range(scales):
        level, t = int(table["index"][i]), process.time(2 * i)
        assert level == scales - 1 - i
        assert t == pytest.approx(float(table["timesteps"][i]), abs=1e-6)
        shrink, beta, alpha = process.nodes.step(i, scales)
        assert beta == pytest.approx(float(table["vp_beta"][level]), rel=1e-5)
        assert alpha == pytest.approx(float(table["vp_alpha"][level]), rel=1e-5)
        assert shrink == pytest.approx(1 - float(table["vp_f_of_one"][i]), rel=1e-5)
        assert process.edges.step(i, scales)[1] ** 0.5 == pytest.approx(float(table["ve_G"][i]), rel=1e-3)
        if t > 0.01:
            assert process.nodes.at(t)[1] == pytest.approx(float(table["vp_std"][i]), rel=1e-4)
        assert process.edges.at(t)[1] == pytest.approx(float(table["ve_std"][i]), rel=1e-4)


@pytest.mark.parametrize("name", ["gdss_zinc250k", "gdss_zinc250k_v2"])
def test_published_files_sample_molecules(name, tmp_path):
    run = guided.sample(model(name), reward="qed", sampler="unguided", n=2, steps=40, batch_size=2)
    assert all(run.samples)
    guided.convert(ASSETS / "gdss" / f"{name}.pth", tmp_path / "folder")
    again = guided.sample(str(tmp_path / "folder"), reward="qed", sampler="unguided", n=2, steps=40, batch_size=2)
    assert list(again.samples) == list(run.samples)


def test_qm9_needs_the_number_of_atoms():
    with pytest.raises(GuidedError, match="atoms=9"):
        model("gdss_qm9")
    run = guided.sample(model("gdss_qm9", atoms=9), sampler="unguided", n=2, steps=40, batch_size=2)
    assert set(run.columns) == {"valid", "fragments", "largest_share"}
