"""`guided fit-value` and `guided sample --value`, on a tiny random molecule model."""

import csv
import json

import pytest
import torch
from safetensors.torch import save_file

from guided.nets.transformer import TokenTransformer

SYMBOLS = ["[C]", "[N]", "[O]", "[=C]", "[Ring1]", "[Branch1]"]
SIZE = {"width": 16, "depth": 1, "heads": 2}
FIT = (
    "--reward",
    "qed",
    "-n",
    "20",
    "--steps",
    "4",
    "--updates",
    "5",
    "--width",
    "8",
    "--check",
    "2",
    "--device",
    "cpu",
)
RUN = ("--reward", "qed", "--steps", "4", "-n", "3", "-M", "3", "--device", "cpu", "--no-report")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    net = TokenTransformer(len(SYMBOLS) + 2, 6, **SIZE)
    save_file({name: w.half() for name, w in net.state_dict().items()}, folder / "model.safetensors")
    config = {"kind": "molecules", "symbols": SYMBOLS, "merges": [[1, 1]], "length": 6}
    (folder / "config.json").write_text(json.dumps(config | SIZE))
    return str(folder)


@pytest.fixture
def value(guided, model, tmp_path):
    code, out, err = guided("fit-value", model, *FIT, "--alpha", "0.5", "--out", tmp_path / "value")
    assert code == 0, err
    assert "the soft value of 20 rollouts, alpha = 0.5; finished" in out
    assert "median reward of 2 samples:" in out and "correlation" in out
    plain = err.splitlines()
    assert plain[0].startswith("20/20 rollouts") and sum("updates" in line for line in plain) == 5
    assert any(line.startswith("4/4 check samples") for line in plain)
    return tmp_path / "value"


def test_a_value_is_fitted_and_used(guided, model, value, tmp_path):
    code, out, err = guided("fit-value", model, *FIT, "--alpha", "0.5", "--out", value)
    assert code == 0 and "already finished, nothing to do" in out and err.count("\n") <= 2

    def sample(*words):
        return guided("sample", model, *RUN, *words)

    code, _, err = sample("--value", value, "--alpha", "0.5", "--out", tmp_path / "run")
    assert code == 0, err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(run["config"]["value"]) == 64 and run["stats"]["seconds"]["value"] > 0
    assert run["stats"]["network_rows"] <= 3 * 4
    with (tmp_path / "run" / "samples.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    code, _, err = sample("--alpha", "0.5", "--out", tmp_path / "run")
    assert code == 2 and "holds another run: value is" in err
    for words, message in {
        ("--alpha", "0.1"): "a soft one for alpha = 0.5, the sampler has alpha = 0.1",
        ("--reward", "sa"): "fitted for the reward 'qed'",
    }.items():
        code, _, err = sample("--value", value, *words)
        assert code == 2 and err.count("\n") == 1 and message in err
    code, _, err = guided("fit-value", model, *FIT, "--alpha", "0.4", "--out", value)
    assert code == 2 and err.count("\n") == 1 and "holds another value: alpha is 0.5 there and 0.4 here" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--out"),
        (("--out", "v"), "needs a --reward"),
        (("--out", "v", "-r", "qedd"), "did you mean 'qed'"),
        (("--out", "v", "-r", "qed", "--target", "sofd"), "did you mean 'soft'"),
        (("--out", "v", "-r", "qed", "--alpha", "0"), "alpha is 0"),
        (("--out", "v", "-r", "qed", "-n", "3"), "-n is 3; it must be at least 10"),
        (("--out", "v", "-r", "qed", "--check", "-1"), "--check is -1"),
        (("--out", "v", "-r", "qed", "--network", "image"), "no network 'image'"),
        (("--out", "file/v", "-r", "qed"), "must be a folder"),
        (("--out", "v", "-r", "qed", "--prompt", "x"), "takes no prompt"),
        (("--out", "v", "-r", "qed", "--guidance", "2"), "takes no prompt and no guidance"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(guided, model, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    code, out, err = guided("fit-value", model, *words, "--device", "cpu")
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err, err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_value_is_told(guided, model, tmp_path):
    code, _, err = guided("sample", model, *RUN, "--value", tmp_path / "none")
    assert code == 2 and err.count("\n") == 1 and "there is no folder" in err
