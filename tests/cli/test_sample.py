"""The command line, on a tiny random molecule model: what it writes, how it resumes, what it says to wrong input."""

import csv
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from guided import cli
from guided.nets.transformer import TokenTransformer

SYMBOLS = ["[C]", "[N]", "[O]", "[=C]", "[Ring1]", "[Branch1]"]
CHECKPOINT = {"kind": "molecules", "symbols": SYMBOLS, "merges": [[1, 1]], "length": 6}
SIZE = {"width": 16, "depth": 1, "heads": 2}
RUN = ("--steps", "4", "-n", "10", "-M", "3", "--batch-size", "4", "--device", "cpu", "--no-report")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A checkpoint of the shipped model's format, with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    net = TokenTransformer(len(SYMBOLS) + 2, CHECKPOINT["length"], **SIZE)
    save_file({name: w.half() for name, w in net.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CHECKPOINT | SIZE))
    return str(folder)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_every_request_with_its_columns(guided, model, tmp_path):
    code, out, err = guided(
        "sample", model, "--reward", "qed", "--reward", "sa?weight=0.5", *RUN, "--out", tmp_path / "a"
    )
    assert code == 0, err
    rows = rows_of(tmp_path / "a" / "samples.csv")
    columns = [
        "request",
        "seed",
        "sample",
        "reward",
        "qed_raw",
        "qed",
        "sa_raw",
        "sa",
        "first_call",
        "reward_calls",
        "network_rows",
    ]
    assert list(rows[0]) == columns
    assert [int(row["request"]) for row in rows] == list(range(10))
    for row in rows:
        qed, sa = float(row["qed"]), float(row["sa"])
        assert float(row["reward"]) == pytest.approx((qed + 0.5 * sa) / 1.5)
        assert sa == pytest.approx((10 - float(row["sa_raw"])) / 9)
    assert len({row["network_rows"] for row in rows}) == 3  # three batches, counted on
    assert err.count("\n") == 3  # a plain line for each: this is no terminal
    assert "10 samples" in out


def test_run_json_has_what_repeats_the_run(guided, model, tmp_path):
    guided("sample", model, "--reward", "qed", *RUN, "--out", tmp_path / "a")
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    last = rows_of(tmp_path / "a" / "samples.csv")[-1]
    assert run["config"]["sampler"]["M"] == 3
    assert run["config"]["steps"] == 4
    assert len(run["config"]["identity"]) == 64
    assert run["stats"]["network_rows"] == int(last["network_rows"])
    assert run["stats"]["reward_calls"] == int(last["reward_calls"])
    assert run["summary"]["rewards"] == 10
    assert {"guided", "torch", "rdkit", "selfies", "python"} <= run["versions"].keys()
    words = run["command"].split()[1:]
    assert guided(*words[:-1], tmp_path / "b")[0] == 0
    assert (tmp_path / "b" / "samples.csv").read_bytes() == (tmp_path / "a" / "samples.csv").read_bytes()


def test_a_finished_run_does_nothing(guided, model, tmp_path):
    command = ("sample", model, "--reward", "qed", *RUN, "--out", tmp_path / "a")
    guided(*command)
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in (tmp_path / "a").iterdir()}
    code, out, err = guided(*command)
    assert code == 0 and "already finished" in out and err == ""
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in (tmp_path / "a").iterdir()} == before


@pytest.mark.parametrize("kept", [0, 1, 100, 350, 600, -1])
def test_a_run_that_was_killed_ends_with_the_same_bytes(guided, model, tmp_path, kept):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    guided("sample", model, "--reward", "qed", *RUN, "--out", whole)
    expected = (whole / "samples.csv").read_bytes()
    shutil.copytree(whole, torn)
    (torn / "samples.csv").write_bytes(expected[:kept])
    code, _, err = guided("sample", model, "--reward", "qed", *RUN, "--out", torn)
    assert code == 0, err
    assert (torn / "samples.csv").read_bytes() == expected
    assert (torn / "path.csv").read_bytes() == (whole / "path.csv").read_bytes()
    stats = [json.loads((folder / "run.json").read_text())["stats"] for folder in (whole, torn)]
    assert stats[0]["network_rows"] == stats[1]["network_rows"]


def test_a_run_that_a_reward_stopped_keeps_its_batches_and_resumes(guided, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("fuel.py").write_text(FUEL)
    command = ("sample", model, "--reward", "fuel.py:score", *RUN, "--out")
    assert guided(*command, "whole")[0] == 0
    Path("seen").rename("fuel")
    code, _, err = guided(*command, "stopped")
    assert code == 2 and err.splitlines()[-1].startswith("error: reward 'score' raised RuntimeError: no fuel")
    assert 0 < len(rows_of(tmp_path / "stopped" / "samples.csv")) < 10
    Path("fuel").unlink()
    code, out, err = guided(*command, "stopped")
    assert code == 0 and "of them new" in out, err
    assert Path("stopped/samples.csv").read_bytes() == Path("whole/samples.csv").read_bytes()


FUEL = """
import os

def score(samples):
    with open("seen", "a") as file:
        file.write("x" * len(samples))
    if os.path.exists("fuel") and os.path.getsize("seen") > 0.7 * os.path.getsize("fuel"):
        raise RuntimeError("no fuel")
    return [float(len(sample)) for sample in samples]
"""


@pytest.mark.parametrize(
    ("other", "key"),
    [
        (("-M", "4"), "sampler.M is 3 there and 4 here"),
        (("--alpha", "0.1"), "sampler.alpha is 0.0 there and 0.1 here"),
        (("--seed", "1"), "seed is 0 there and 1 here"),
        (("-n", "11"), "n is 10 there and 11 here"),
        (("--steps", "5"), "steps is 4 there and 5 here"),
        (("--reward", "sa"), "reward is"),
        (("--sampler", "best-of-n", "--set", "N=3"), 'sampler.name is "svdd" there and "best-of-n" here'),
    ],
)
def test_another_configuration_in_the_same_folder_is_refused(guided, model, tmp_path, other, key):
    command = ["sample", model, "--reward", "qed", *RUN, "--out", tmp_path / "a"]
    guided(*command)
    before = {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()}
    if "best-of-n" in other:
        del command[command.index("-M") : command.index("-M") + 2]
    code, _, err = guided(*command, *other)
    assert code == 2 and err.count("\n") == 1 and key in err
    assert {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()} == before


def test_only_draws_the_same_sample_and_leaves_the_run_alone(guided, model, tmp_path):
    command = ("sample", model, "--reward", "qed", *RUN, "--out", tmp_path / "a")
    guided(*command)
    before = {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()}
    code, out, err = guided(*command, "--only", "7")
    assert code == 0 and err == ""
    [alone], run = rows_of(tmp_path / "a" / "only-7.csv"), rows_of(tmp_path / "a" / "samples.csv")
    for column in ("request", "seed", "sample", "reward", "qed_raw"):
        assert alone[column] == run[7][column]
    assert run[7]["sample"] in out
    (tmp_path / "a" / "only-7.csv").unlink()
    assert {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()} == before
    code, out, err = guided(*command[:-2], "--only", "7")
    assert code == 0 and run[7]["sample"] in out


def test_without_a_folder_it_shows_the_best_and_writes_nothing(guided, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = guided("sample", model, "--reward", "qed", *RUN)
    assert code == 0 and "network rows" in out and list(tmp_path.iterdir()) == []
    rewards = [float(line.split()[2]) for line in out.splitlines()[1:11]]
    assert rewards == sorted(rewards, reverse=True)


def test_unguided_needs_no_reward(guided, model, tmp_path):
    words = [word for word in RUN if word not in ("-M", "3")]
    code, _, err = guided("sample", model, "--sampler", "unguided", *words, "--out", tmp_path / "a")
    assert code == 0, err
    assert list(rows_of(tmp_path / "a" / "samples.csv")[0]) == [
        "request",
        "seed",
        "sample",
        "reward_calls",
        "network_rows",
    ]
    assert guided("sample", model, "--sampler", "unguided", *words)[0] == 0


def test_a_folder_with_other_files_is_used(guided, model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert guided("sample", model, "--reward", "qed", *RUN, "--out", tmp_path)[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_stopped_run_may_go_on_and_count_failures_as_worst(guided, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("picky.py").write_text("def score(samples):\n    return [1 / (len(s) - 2) for s in samples]\n")
    command = ("sample", model, "--reward", "picky.py:score", *RUN, "--out", "a")
    assert guided(*command)[0] == 2
    code, _, err = guided(*command, "--on-error", "worst")
    assert code == 0, err
    assert err.splitlines()[-1].startswith("note: ") and "ZeroDivisionError" in err


@pytest.mark.parametrize(
    ("command", "expected"), [("models", "molecules"), ("rewards", "similarity"), ("samplers", "best-of-n")]
)
def test_lists_have_a_line_each(guided, command, expected):
    code, out, err = guided(command)
    assert code == 0 and err == ""
    assert [line for line in out.splitlines() if line.startswith(expected)]


def test_version_and_help(guided):
    assert guided("--version")[1].strip().count(".") == 2
    assert "sample" in guided()[1]
    assert "--reward" in guided("sample", "--help")[1]
    printed = subprocess.run([sys.executable, "-m", "guided", "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout == guided("--version")[1]


@pytest.fixture
def wrong(model, tmp_path, monkeypatch):
    """A working directory with everything that can be wrong."""
    monkeypatch.chdir(tmp_path)
    weights = Path(model, "model.safetensors").read_bytes()
    for name in ("truncated", "pickled", "config-only", "broken-config", "weights-only", "other"):
        shutil.copytree(model, name)
    Path("truncated/model.safetensors").write_bytes(weights[: len(weights) // 2])
    Path("pickled/model.safetensors").write_bytes(pickle.dumps({"weights": [1, 2]}))
    Path("config-only/model.safetensors").unlink()
    Path("weights-only/config.json").unlink()
    Path("broken-config/config.json").write_text("{")
    Path("other/config.json").write_text(json.dumps(CHECKPOINT | SIZE | {"width": 32}))
    Path("file").write_text("x")
    Path("foreign").mkdir()
    Path("foreign/samples.csv").write_text("mine\n")
    Path("two.txt").write_text("a\nb\n")
    Path("r.py").write_text(REWARDS)
    return tmp_path


REWARDS = """
def short(samples):
    return [0.0] * (len(samples) - 1)

def raises(samples):
    raise KeyError("oops")

def nan(samples):
    return [float("nan")] * len(samples)

def text(samples):
    return ["a"] * len(samples)

def slow(samples):
    import time
    time.sleep(5)

def fine(samples):
    return [1.0] * len(samples)
"""

QED = ("--reward", "qed")
WRONG = {
    "unknown model": (("molecule", *QED), "did you mean 'molecules'"),
    "unknown reward": (("MODEL", "--reward", "qedd"), "did you mean 'qed'"),
    "unknown sampler": (("MODEL", *QED, "--sampler", "svd"), "did you mean 'svdd'"),
    "no reward": (("MODEL",), "needs a --reward"),
    "M = 0": (("MODEL", *QED, "-M", "0"), "M is 0"),
    "M no number": (("MODEL", *QED, "-M", "ten"), "'ten'"),
    "alpha < 0": (("MODEL", *QED, "--alpha", "-1"), "alpha is -1"),
    "alpha nan": (("MODEL", *QED, "--alpha", "NaN"), "alpha is nan"),
    "n = 0": (("MODEL", *QED, "-n", "0"), "-n is 0"),
    "n no number": (("MODEL", *QED, "-n", "many"), "-n is 'many'"),
    "seed < 0": (("MODEL", *QED, "--seed", "-1"), "--seed is -1"),
    "seed too large": (("MODEL", *QED, "--seed", str(2**70)), str(2**70)),
    "batch size 0": (("MODEL", *QED, "--batch-size", "0"), "--batch-size is 0"),
    "steps 0": (("MODEL", *QED, "--steps", "0"), "--steps is 0"),
    "time limit 0": (("MODEL", *QED, "--time-limit", "0"), "--time-limit is 0"),
    "out below a file": (("MODEL", *QED, "--out", "file/a/b"), "'file"),
    "out is a file": (("MODEL", *QED, "--out", "file"), "must be a folder"),
    "out holds samples of nobody": (("MODEL", *QED, "--out", "foreign"), "no run.json"),
    "model is a file": (("file", *QED), "file"),
    "truncated checkpoint": (("truncated", *QED), "truncated"),
    "pickled checkpoint": (("pickled", *QED), "safetensors"),
    "checkpoint of another size": (("other", *QED), "architecture"),
    "no weights": (("config-only", *QED), "model.safetensors"),
    "no config": (("weights-only", *QED), "config.json"),
    "broken config": (("broken-config", *QED), "config.json"),
    "reward file without the function": (("MODEL", "--reward", "r.py:fin"), "did you mean 'fine'"),
    "missing reward file": (("MODEL", "--reward", "none.py:f"), "none.py"),
    "missing program": (("MODEL", "--reward", "exec:no-such-program"), "no-such-program"),
    "reward of the wrong length": (("MODEL", "--reward", "r.py:short"), "'short'"),
    "reward that raises": (("MODEL", "--reward", "r.py:raises"), "oops"),
    "reward nan": (("MODEL", "--reward", "r.py:nan"), "nan"),
    "reward text": (("MODEL", "--reward", "r.py:text"), "not a number"),
    "reward that hangs": (("MODEL", "--reward", "r.py:slow", "--time-limit", "0.1"), "longer than 0.1 s"),
    "unknown parameter": (("MODEL", "--reward", "similarity?targt=CC"), "did you mean 'target'"),
    "unknown field": (("MODEL", *QED, "--set", "N=3"), "it takes M, alpha"),
    "field of another shape": (("MODEL", *QED, "--set", "interval=3"), "interval is 3; it must be two numbers"),
    "M for best-of-n": (("MODEL", *QED, "--sampler", "best-of-n", "-M", "3"), "it takes N"),
    "field that is a word": (
        ("MODEL", *QED, "--sampler", "smc", "--set", "potential=mean"),
        "potential is 'mean'; it is one of difference, max, sum",
    ),
    "word for a number": (("MODEL", *QED, "--set", "M=many"), "the sampler's M is 'many'; it must be a number"),
    "word for another number": (
        ("MODEL", *QED, "--sampler", "smc", "--set", "N=many"),
        "N is 'many'; it must be a whole number, at least 1",
    ),
    "field without a value": (("MODEL", *QED, "--set", "N"), "FIELD=VALUE"),
    "field twice": (("MODEL", *QED, "-M", "3", "--set", "M=4"), "twice"),
    "only out of range": (("MODEL", *QED, "-n", "4", "--only", "4"), "0 to 3"),
    "missing prompts": (("MODEL", *QED, "--prompts", "none.txt"), "none.txt"),
    "too few prompts": (("MODEL", *QED, "-n", "3", "--prompts", "two.txt"), "2 lines"),
    "prompt and prompts": (("MODEL", *QED, "--prompt", "a", "--prompts", "two.txt"), "exclude"),
    "prompt of an unconditional model": (("MODEL", *QED, "--prompt", "a cat"), "unconditional"),
    "guidance of an unconditional model": (("MODEL", *QED, "--guidance", "2"), "unconditional"),
    "unknown device": (("MODEL", *QED, "--device", "gpu"), "'gpu'"),
    "aggregate": (("MODEL", *QED, "--aggregate", "max"), "'max'"),
    "on error": (("MODEL", *QED, "--on-error", "ignore"), "'ignore'"),
    "unknown option": (("MODEL", *QED, "--candidates", "3"), "--candidates"),
    "no model": ((), "Missing argument"),
}


def said(command, model):
    small = {"-n": "3", "--steps": "2", "--device": "cpu"}
    rest = [word for option, value in small.items() if option not in command for word in (option, value)]
    return ["sample", *(model if word == "MODEL" else word for word in command), *rest]


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2(guided, model, wrong, case):
    before = sorted(wrong.rglob("*"))
    command, expected = WRONG[case]
    code, out, err = guided(*said(command, model))
    assert code == 2
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert expected in err
    assert out == ""
    assert [path for path in sorted(wrong.rglob("*")) if "__pycache__" not in str(path)] == before


@pytest.mark.parametrize("case", ["reward that raises", "out below a file"])
def test_wrong_input_in_a_process_of_its_own(model, wrong, case):
    command, expected = WRONG[case]
    root = Path(cli.__file__).parents[2]
    words = [sys.executable, "-m", "guided", *said(command, model)]
    done = subprocess.run(words, capture_output=True, text=True, env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and expected in done.stderr, done.stderr


def test_our_own_mistakes_keep_their_traceback(guided, model, monkeypatch):
    def broken(options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("guided.cli.sample.sample", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        guided("sample", model, *QED)


def test_guidance_without_a_prompt_is_noted(guided):
    code, _, errors = guided("sample", "rna", "-r", "gc", "-n", 1, "-M", 1, "--steps", 1, "--guidance", 2)
    assert code == 0 and "note: --guidance changes nothing without a prompt" in errors


def test_only_says_where_it_wrote(guided, tmp_path):
    words = ("sample", "rna", "-r", "gc", "-n", 2, "-M", 1, "--steps", 1, "--only", 1, "--out", tmp_path / "run")
    code, out, _ = guided(*words)
    assert code == 0 and str(tmp_path / "run" / "only-1.csv") in out


def test_the_sampler_that_is_chosen_is_said(guided, model):
    words = ("-r", "qed", "--sampler", "auto", "-n", 2, "--steps", 4, "--budget-calls", 6, "--device", "cpu")
    code, out, err = guided("sample", model, *words)
    assert code == 0, err
    assert "sampler best-of-n (N=6), chosen for fewer than 20 reward calls" in out
