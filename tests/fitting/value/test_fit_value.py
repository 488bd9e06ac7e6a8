"""The call: what it saves, how it resumes, what it says to wrong input; prompts; failed samples; the report."""

import json
import shutil

import pytest
import torch

import guided
from guided.fitting.value import fit as fitting
from guided.fitting.value.diagnostics import judge
from guided.fitting.value.rollouts import Rollouts
from guided.fitting.value.states import Data
from guided.samplers import SVDD
from tests.toys.chains import gaussian
from tests.toys.values import CHAIN, Table, chain_reward, dna, gc

SMALL = {"n": 30, "batch_size": 8, "updates": 20, "batch": 16, "network": {"width": 8, "depth": 1}, "n_check": 2}


def fit(out, model=None, reward=gc, target="soft", alpha=0.2, **options):
    options = {"prompt": "GC", "states": 2, **SMALL, **options}
    return guided.fit_value(dna() if model is None else model, reward, target, alpha, out=out, **options)


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def lasting(path):
    """What does not depend on the clock."""
    found = files(path)
    config = json.loads(found.pop("config.json"))
    del config["metrics"]["seconds"]
    return {**found, "config.json": config}


def test_a_fit_warns_of_nothing(tmp_path, recwarn):
    """The unguided samples of its check ask no value, and are given none."""
    fit(tmp_path / "value", n=20, updates=2)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    fit(path, target="bootstrap")
    return path


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("stage", "at"), [("rollouts", 16), ("updates", 1), ("updates", 7), ("updates", 20), ("check", 2)]
)
def test_a_fit_that_was_killed_ends_with_the_same_bytes(whole, tmp_path, monkeypatch, stage, at):
    monkeypatch.setattr(fitting, "SAVING", 0.0)

    def kill(state):
        if state.stage.startswith(stage) and state.done >= at:
            raise Killed

    with pytest.raises(Killed):
        fit(tmp_path, target="bootstrap", progress=kill)
    with pytest.raises(ValueError, match="is not finished"):
        guided.load_value(tmp_path)
    seen = []
    fit(tmp_path, target="bootstrap", progress=lambda state: seen.append((state.stage, state.done)))
    updates = [done for stage, done in seen if stage == "updates"]
    assert not updates or updates[0] == (at + 1 if stage == "updates" else 1)  # goes on, and does not begin again
    assert lasting(tmp_path) == lasting(whole)


def test_a_finished_fit_does_nothing(whole):
    before = files(whole)
    value = fit(whole, target="bootstrap", progress=lambda state: pytest.fail("there is nothing to do"))
    assert files(whole) == before
    x = torch.zeros(1, 12, dtype=torch.long)
    loaded = guided.load_value(whole)
    assert torch.equal(value.predict(x, 0.5, x[:, 0]), loaded.predict(x, 0.5, x[:, 0]))
    assert value.identity == loaded.identity and len(value.identity) == 64


def test_what_it_saves(whole):
    assert {"config.json", "model.safetensors", "rollouts/rollouts.json", "rollouts/00003.npz"} <= files(whole).keys()
    config = json.loads((whole / "config.json").read_text())
    assert config["kind"] == "value" and config["target"] == "bootstrap" and config["alpha"] == 0.2
    assert "objective" not in config["fit"]  # as in the folders of before there was a choice
    assert config["model"]["identity"] == "dna" and config["model"]["prompts"] == ["GC"]
    assert config["reward"]["terms"][0]["reward"].endswith(":gc")
    metrics = config["metrics"]
    assert sum(part["states"] for part in metrics["held_out"]["bins"]) == metrics["held_out"]["states"] == 3 * 2
    assert metrics["reward"]["n"] == 2 and metrics["reward"]["sampler"] == "SVDD(M=10, alpha=0.2)"
    assert metrics["rollouts"]["network_rows"] > 0 and 1 <= metrics["rollouts"]["effective"] <= 30


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"alpha": 0.3}, "alpha is 0.2 there and 0.3 here"),
        ({"target": "soft"}, 'target is "bootstrap" there and "soft" here'),
        ({"n": 31}, "n is 30 there and 31 here"),
        ({"seed": 1}, "rollouts.seed is 0 there and 1 here"),
        ({"steps": 5}, "rollouts.steps is 4 there and 5 here"),
        ({"prompt": "AT"}, r'model.prompts\[0\] is "GC" there and "AT" here'),
        ({"guidance": 1.5}, "model.guidance is null there and 1.5 here"),
        ({"model": dna(identity="x")}, 'model.identity is "dna" there and "x" here'),
        ({"reward": {gc: 2.0}}, "reward.terms"),
        ({"network": {"width": 16, "depth": 1}}, "network.width is 8 there and 16 here"),
        ({"updates": 21}, "fit.updates is 20 there and 21 here"),
    ],
)
def test_another_fit_in_the_same_folder_is_refused(whole, options, key):
    before = files(whole)
    with pytest.raises(ValueError, match=f"holds another value: {key}"):
        fit(whole, **{"target": "bootstrap", **options})
    assert files(whole) == before


def test_values_share_rollouts(tmp_path):
    fit(tmp_path / "a", rollouts=tmp_path / "r")
    before = files(tmp_path / "r")
    calls = []
    fit(tmp_path / "b", alpha=0.5, n=20, rollouts=tmp_path / "r", n_check=0, progress=lambda s: calls.append(s.stage))
    assert files(tmp_path / "r") == before and not (tmp_path / "a" / "rollouts").exists()
    assert "check samples" not in calls
    with pytest.raises(ValueError, match=r"holds other rollouts: rollouts\.candidates is 1 there and 8 here"):
        fit(tmp_path / "c", target="bootstrap", rollouts=tmp_path / "r")


def test_a_value_of_several_prompts_knows_them_apart(tmp_path):
    """Before any token is revealed the value depends only on the prompt: E[GC] is .8 and .2."""
    value = fit(tmp_path, target="mean", prompt=["GC", "AT"], n=100, updates=150, batch=64, lr=0.01)
    x = torch.full((2, 12), 4)
    v = value.predict(x, 1.0, torch.tensor([0, 1]))
    assert v[0] > 0.65 > 0.35 > v[1]
    run = guided.sample(dna(), gc, SVDD(4), n=5, prompt=["AT", "AT", "GC", "AT", "GC"], value=tmp_path)
    alone = guided.sample(dna(), gc, SVDD(4), n=5, prompt=["AT", "AT", "GC", "AT", "GC"], value=value, batch_size=2)
    assert run.samples == alone.samples


@pytest.mark.parametrize("target", ["mean", "soft"])
def test_failed_samples_count_as_the_worst(tmp_path, target):
    def picky(samples):
        return [-float("inf") if s[0] == "A" else g for s, g in zip(samples, gc(samples), strict=True)]

    value = fit(tmp_path, reward=picky, target=target, prompt="")
    assert 0 < value.config["metrics"]["rollouts"]["failed"] < 30
    assert 0 < value.config["shift"] < 1


def test_a_continuous_model_and_a_constant_reward(tmp_path):
    model, reward = gaussian(K=5), lambda x: x[:, 0] * 0
    value = guided.fit_value(model, reward, "soft", out=tmp_path, **SMALL | {"network": {"width": 8}})
    assert value.config["network"]["kind"] == "vector"
    v = value(model.start(guided.fitting.value.rollouts.Streams(0, [0, 1]), 3), 0.1)
    assert v.shape == (2, 3) and v.abs().max() < 0.1
    assert value.config["metrics"]["held_out"]["correlation"] is None


def test_a_network_of_ones_own(tmp_path):
    options = {"out": tmp_path, "n": 20, "network": Table, "states": 3, "updates": 5, "n_check": 2}
    value = guided.fit_value(CHAIN.model(identity="chain"), chain_reward, "mean", **options)
    assert value.config["network"]["kind"] == "own:tests.toys.values:Table"
    with pytest.raises(ValueError, match=r"was made by tests.toys.values:Table; give it as network="):
        guided.load_value(tmp_path)
    assert torch.equal(guided.load_value(tmp_path, network=Table).net.table, value.net.table)


def test_it_helps(tmp_path):
    """Small as it is: the share of G and C in independent tokens is easy."""
    value = fit(tmp_path, target="mean", n=100, updates=100, batch=64, lr=0.01, n_check=16, prompt="")
    reached = value.config["metrics"]["reward"]
    assert reached["sampler"] == "SVDD(M=10, alpha=0.0)"
    assert reached["guided"] > reached["unguided"] + 0.2
    assert value.config["metrics"]["held_out"]["loss"] < 0.9


def test_the_report_is_zero_bias_and_full_correlation_for_what_is_right():
    n, K = 40, 10
    k = torch.arange(K).repeat(n)
    r = torch.rand(n, generator=torch.Generator().manual_seed(0)).double()
    of = torch.arange(n).repeat_interleave(K)
    x = torch.zeros(n * K, 1)
    rollouts = Rollouts(x, k, of, r, None, r[:, None], 0)
    _, data = Data.split(rollouts, [1 - step / K for step in range(K + 1)], 1, torch.device("cpu"))
    for alpha in (None, 0.3):
        right = judge(data.r, data, alpha, r.mean().item())
        assert right["loss"] == right["rmse"] == right["bias"] == 0 and right["correlation"] == pytest.approx(1)
        assert [part["time"] for part in right["bins"]] == [
            [round(1 - i / 10, 1), round(0.9 - i / 10, 1)] for i in range(10)
        ]
        off = judge(data.r - 0.25, data, alpha, r.mean().item())
        assert off["bias"] == pytest.approx(0.25) and off["rmse"] == pytest.approx(0.25)
    shift = data.r.mean().item()
    assert judge(torch.full_like(data.r, shift), data, None, shift)["loss"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "softt"}, "target is 'softt' \\(did you mean 'soft'\\?\\)"),
        ({"alpha": 0}, "alpha is 0; for a soft value"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": "hot"}, "alpha is 'hot'"),
        ({"n": 9}, "n is 9; it must be a whole number, at least 10"),
        ({"states": 0}, "states is 0"),
        ({"updates": 1.5}, "updates is 1.5"),
        ({"batch_size": True}, "batch_size is True"),
        ({"n_check": -1}, "n_check is -1"),
        ({"lr": -1}, "lr is -1"),
        ({"target": "bootstrap", "candidates": 1}, "candidates is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"model": 3}, "model is an int"),
        ({"objective": "contrast"}, "objective is 'contrast' \\(did you mean 'contrastive'\\?\\)"),
        ({"objective": "contrastive", "target": "mean"}, "is for the target soft, not mean"),
        ({"model": "molecule"}, "did you mean 'molecules'"),
        ({"prompt": "XX"}, "unknown prompt 'XX'"),
        ({"prompt": []}, "prompt is an empty list"),
        ({"model": gaussian(), "prompt": "GC"}, "takes no prompt"),
        ({"model": gaussian(), "prompt": None, "guidance": 2.0}, "takes no prompt and no guidance"),
        ({"model": gaussian(eta=0.0), "prompt": None}, "eta = 0"),
        ({"model": dna().prompted(["GC"]).pinned(torch.full((1, 12), 4))}, "different pinned tokens for each request"),
        ({"network": "image"}, r"no network 'image' for rows of shape \(12,\) of 5 tokens"),
        ({"network": "convolution"}, "no network 'convolution'"),
        ({"network": {"wide": 3}}, "does not take {'wide': 3}"),
        ({"reward": lambda samples: [-float("inf")] * len(samples), "on_error": "worst"}, "none of the 30 rewards"),
        ({"reward": "qedd"}, "did you mean 'qed'"),
    ],
)
def test_wrong_input_is_one_clear_line(tmp_path, options, message):
    with pytest.raises(ValueError, match=message) as error:
        fit(tmp_path, **options)
    assert "\n" not in str(error.value)


def test_a_network_of_another_output_is_refused(tmp_path):
    class Wrong(torch.nn.Linear):
        def __init__(self, event, tokens, prompts):
            super().__init__(12, 2)

        def forward(self, x, t, prompt):
            return super().forward(x.float())

    with pytest.raises(ValueError, match=r"the value network returned shape \(16, 2\) for 16 rows; it must be \(16,\)"):
        fit(tmp_path, network=Wrong)


def test_a_folder_that_is_no_value_is_refused(whole, tmp_path):
    for name in ("none", "empty", "model", "torn", "other"):
        if name != "none":
            shutil.copytree(whole, tmp_path / name)
    (tmp_path / "empty" / "config.json").unlink()
    config = json.loads((whole / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"kind": "molecules"}))
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"network": config["network"] | {"width": 16}}))
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    for name, message in {
        "none": "there is no folder",
        "empty": "is not the folder of a value",
        "model": "a model of kind 'molecules', not a value",
        "torn": "truncated",
        "other": "another architecture",
    }.items():
        with pytest.raises(ValueError, match=message):
            guided.load_value(tmp_path / name)
        with pytest.raises(ValueError, match=message):
            guided.sample(dna(), gc, prompt="GC", value=tmp_path / name)
