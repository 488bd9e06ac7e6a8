"""Files of GDSS: read without running them, refused where they are damaged, converted without a change of samples."""

import json
import sys
import types

import pytest
import torch

import guided
from guided.cli import main
from guided.core.random import Streams
from guided.errors import GuidedError
from guided.nets.gdss import GraphScores, ScoreNetworkA, ScoreNetworkX, ScoreNetworkXAttention

SIZES = {"depth": 2, "nhid": 4, "num_linears": 2, "c_init": 2, "c_hid": 3, "c_final": 2, "adim": 4, "num_heads": 2}
CHANNELS = (2, 3, 2)


@pytest.fixture
def easydict(monkeypatch):
    """A module whose class runs code when it is unpickled."""
    module = types.ModuleType("easydict")

    class EasyDict(dict):
        def __setitem__(self, key, value):
            if armed:
                raise AssertionError("code of the file was run")
            super().__setitem__(key, value)

    armed = []
    EasyDict.__module__, EasyDict.__qualname__ = "easydict", "EasyDict"
    module.EasyDict, module.armed = EasyDict, armed
    monkeypatch.setitem(sys.modules, "easydict", module)
    return module


def nested(kind, content):
    return kind({key: nested(kind, value) if isinstance(value, dict) else value for key, value in content.items()})


def networks(attention=False, places=6):
    torch.manual_seed(0)
    x = ScoreNetworkXAttention(9, 2, 4, CHANNELS, 4, 2, 2) if attention else ScoreNetworkX(9, 2, 4)
    net = GraphScores(x, ScoreNetworkA(9, 2, 4, CHANNELS, 4, 2, 2))
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    return net


@pytest.fixture
def save(easydict, tmp_path):
    """Writes a file as GDSS does, with changes, and arms the trap in it."""

    def write(attention=False, prefix="", name="model.pth", **changes):
        net = networks(attention)
        settings = {
            "data": {"data": "QM9", "max_node_num": 6},
            "sde": {
                "x": {"type": "VP", "beta_min": 0.1, "beta_max": 1.0, "num_scales": 10},
                "adj": {"type": "VE", "beta_min": 0.2, "beta_max": 1.0, "num_scales": 10},
            },
        }
        kind = "ScoreNetworkX_GMH" if attention else "ScoreNetworkX"
        sizes = SIZES if attention else {"depth": 2, "nhid": 4}
        content = {
            "model_config": nested(easydict.EasyDict, settings),
            "params_x": {"model_type": kind, "max_feat_num": 9, **sizes},
            "params_adj": {"model_type": "ScoreNetworkA", "max_feat_num": 9, "max_node_num": 6, "num_layers": 2}
            | {key: value for key, value in SIZES.items() if key != "depth"},
            "x_state_dict": {prefix + key: w for key, w in net.x.state_dict().items()},
            "adj_state_dict": {prefix + key: w for key, w in net.adj.state_dict().items()},
        }
        torch.save(content | changes, tmp_path / name)
        easydict.armed.append(True)
        return tmp_path / name

    return write


def drawn(model, **options):
    return guided.sample(model, reward="qed", sampler="svdd", n=3, seed=1, batch_size=3, **options)


@pytest.mark.parametrize("attention", [False, True])
def test_a_file_and_its_folder_draw_the_same(save, attention, tmp_path, capsys, monkeypatch):
    path = save(attention)
    first = drawn(f"{path}?atoms=6")
    monkeypatch.setattr(sys, "argv", ["guided", "convert", str(path), "--out", str(tmp_path / "folder")])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "give this folder" in capsys.readouterr().out
    again = drawn(f"{tmp_path / 'folder'}?atoms=6")
    assert list(again.samples) == list(first.samples)
    assert again.columns == first.columns
    assert (first.stats.network_rows, first.stats.network_calls) == (2 * 3 * (1 + 10 * 19), 20)


def test_a_value_is_fitted_to_graphs(save, tmp_path):
    """By a network of graphs; candidates that it compares take no reward and no network row of the model."""
    options = {"n": 10, "states": 4, "updates": 4, "n_check": 0, "out": tmp_path / "value"}
    value = guided.fit_value(f"{save()}?atoms=6", "qed", "mean", **options)
    assert value.config["network"]["kind"] == "graph"
    run = drawn(f"{save()}?atoms=6", value=tmp_path / "value")
    assert (run.stats.network_rows, run.stats.reward_calls) == (2 * 3 * 20, len(set(run.samples)))


def test_wrapped_names(save):
    assert list(drawn(f"{save(prefix='module.')}?atoms=6").samples) == list(drawn(f"{save()}?atoms=6").samples)


def test_measures_are_columns_of_the_run(save, tmp_path):
    """Also of a run without a reward, and of one that is read from its folder."""
    path = f"{save()}?atoms=6"
    run = guided.sample(path, sampler="unguided", n=2, out=tmp_path / "run", report=False)
    assert set(run.columns) == {"valid", "fragments", "largest_share"}
    assert (
        (tmp_path / "run" / "samples.csv")
        .read_text()
        .startswith("request,seed,sample,valid,fragments,largest_share,reward_calls")
    )
    again = guided.sample(path, sampler="unguided", n=2, out=tmp_path / "run", report=False)
    assert again.columns == run.columns


def test_options_change_the_identity(save):
    path = save()
    found = [guided.load(path, atoms=6, **options) for options in ({}, {"correct": False}, {"whole": True})]
    assert len({model.identity for model in found}) == 3
    assert guided.load(path, atoms=5).identity != found[0].identity


def test_what_the_weights_shapes_do_not_say_changes_the_identity(save, tmp_path):
    guided.convert(save(), tmp_path / "folder")
    before = guided.load(tmp_path / "folder", atoms=6).identity
    file = tmp_path / "folder" / "config.json"
    config = json.loads(file.read_text())
    config["adj"]["num_heads"] = 1
    file.write_text(json.dumps(config))
    assert guided.load(tmp_path / "folder", atoms=6).identity != before


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(save, attention, dtype):
    path = save(attention)
    exact, half = (guided.load(path, atoms=6, dtype=given).denoiser for given in ("float32", dtype))
    x = guided.load(path, atoms=6).process.prior(4, Streams(0, [0])).flatten(0, 1)
    torch.testing.assert_close(half(x, torch.ones(4)), exact(x, torch.ones(4)), atol=0.1, rtol=0.1)


def test_no_rows(save):
    given = guided.load(save(), atoms=6)
    assert given.denoiser(torch.zeros(0, *given.process.event), torch.zeros(0)).shape == (0, *given.process.event)


def test_the_published_damping(save):
    assert guided.load(save(), atoms=6).process.damping == 0.7
    assert guided.load(save(), atoms=6, damping=1).process.damping == 1.0


def plain(**changes):
    return {"model_type": "ScoreNetworkX", "max_feat_num": 9, "nhid": 4, "depth": 2} | changes


def noise(kind, scales):
    return {"type": kind, "beta_min": 0.1, "beta_max": 1.0, "num_scales": scales}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"params_x": {"model_type": "Transformer"}}, "model_type"),
        ({"params_x": plain(nhid="4")}, "nhid"),
        (
            {"params_x": plain(nhid=5)},
            "another architecture",
        ),
        ({"params_x": plain(max_feat_num=3)}, "same max_feat_num"),
        ({"x_state_dict": {}}, "another architecture"),
        ({"x_state_dict": 3}, "another architecture"),
        ({"adj_state_dict": {"layers.0.weight": "text"}}, "no tensors"),
        ({"model_config": {}}, "has data None"),
        (
            {"model_config": {"data": {"data": "QM9"}, "sde": {"x": noise("VP", 10), "adj": noise("VE", 20)}}},
            "same num_scales",
        ),
    ],
)
def test_damaged_files(save, changes, message):
    with pytest.raises(GuidedError, match=message):
        guided.load(save(**changes), atoms=6)


def test_weights_that_are_nan(save):
    state = networks().x.state_dict()
    state["final.linears.0.bias"][0] = torch.nan
    with pytest.raises(GuidedError, match="not finite"):
        guided.load(save(x_state_dict=state), atoms=6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "atoms=6"),
        ({"atoms": 7}, "atoms is 7"),
        ({"atoms": 0}, "atoms is 0"),
        ({"atoms": 6, "correct": 1}, "correct is 1"),
        ({"atoms": 6, "steps": 9}, "must be even"),
        ({"atoms": 6, "length": 9}, "no option 'length'"),
    ],
)
def test_wrong_options(save, options, message):
    with pytest.raises(GuidedError, match=message):
        guided.load(save(), **options)


def test_only_files_of_gdss_are_converted(tmp_path, save):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(GuidedError, match="not a file of GDSS"):
        guided.convert(tmp_path / "other.ckpt", tmp_path / "folder")
    with pytest.raises(GuidedError, match="no file"):
        guided.convert(tmp_path / "missing.pth", tmp_path / "folder")
    with pytest.raises(GuidedError, match="is a folder"):
        guided.convert(tmp_path, tmp_path / "folder")
    with pytest.raises(GuidedError, match="in use"):
        guided.convert(save(), tmp_path)
