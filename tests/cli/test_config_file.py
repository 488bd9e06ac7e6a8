"""`guided sample --config`: TOML, the run.json of a run, and what goes before what."""

import csv
import json
import shutil

import pytest

import guided as package
from tests.cli.test_sample import model, rows_of  # noqa: F401

QUICK = ("--steps", "3", "--device", "cpu", "--no-report")


def samples(folder):
    return (folder / "samples.csv").read_bytes()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.py").write_text("def length(samples):\n    return [float(len(s)) for s in samples]\n")
    return tmp_path


def test_a_run_is_repeated_from_its_run_json_byte_for_byte(guided, model, here):  # noqa: F811
    words = ("-r", "r.py:length", "-r", "sa?weight=0.5&linear=1,10", "--aggregate", "product", "-n", "7", "-M", "3,2")
    code, _, err = guided(
        "sample",
        model,
        *words,
        "--alpha",
        "0.5",
        "--set",
        "every=2",
        "--seed",
        "3",
        "--batch-size",
        "4",
        *QUICK,
        "--out",
        "a",
    )
    assert code == 0, err
    code, _, err = guided("sample", "--config", "a/run.json", "--out", "b", "--no-report")
    assert code == 0, err
    assert samples(here / "a") == samples(here / "b")
    assert (here / "a/path.csv").read_bytes() == (here / "b/path.csv").read_bytes()
    runs = [json.loads((here / name / "run.json").read_text()) for name in "ab"]
    assert runs[0]["config"] == runs[1]["config"] and runs[0]["options"] == runs[1]["options"]
    code, out, _ = guided("sample", "--config", "a/run.json", "--out", "a", "--no-report")
    assert code == 0 and "already finished" in out


def test_a_list_of_prompts_is_recorded_once_and_repeated(guided, here):
    prompts = ["HepG2", "K562"]
    package.sample("dna", None, "unguided", n=2, steps=2, prompt=prompts, out="a", device="cpu")
    run = json.loads((here / "a/run.json").read_text())
    assert run["config"]["prompt"] == prompts and "prompt" not in run["options"]
    assert guided("sample", "--config", "a/run.json", "--out", "b", "--no-report")[0] == 0
    assert samples(here / "a") == samples(here / "b")
    again = json.loads((here / "b/run.json").read_text())
    assert again["config"] == run["config"]
    run["options"]["prompt"] = prompts[::-1]  # a former version had them there, too
    (here / "former.json").write_text(json.dumps(run))
    assert guided("sample", "--config", "former.json", "--out", "c", "--no-report")[0] == 0
    assert json.loads((here / "c/run.json").read_text())["config"]["prompt"] == prompts[::-1]


def test_a_run_of_the_former_version_is_repeated(guided, model, here):  # noqa: F811
    assert guided("sample", model, "-r", "r.py:length", "-n", "5", "-M", "3", *QUICK, "--out", "a")[0] == 0
    run = json.loads((here / "a/run.json").read_text())
    (here / "old").mkdir()
    (here / "old/run.json").write_text(json.dumps({key: run[key] for key in run if key not in ("options", "folder")}))
    code, _, err = guided("sample", "--config", "old/run.json", "--out", "b", "--no-report")
    assert code == 0, err
    assert samples(here / "a") == samples(here / "b")


FORMER = [
    "model", "identity", "reward", "sampler", "n", "seed", "steps", "batch_size", "prompt", "guidance", "device",
    "dtype", "draws",
]  # fmt: skip


def test_a_folder_of_the_former_version_resumes_to_the_same_bytes(guided, model, here):  # noqa: F811
    """Its run.json has a config of these entries, and none of today's options."""
    command = ("sample", model, "-r", "qed", "-n", "7", "-M", "3", "--batch-size", "4", *QUICK, "--out")
    assert guided(*command, "whole")[0] == 0
    shutil.copytree(here / "whole", here / "old")
    run = json.loads((here / "old/run.json").read_text())
    config = run["config"]
    assert config.pop("process") == {"schedule": "log-linear", "temperature": 1.0}  # recorded since
    assert sorted(config) == sorted(FORMER)
    assert config["reward"] == {
        "terms": [{"reward": "qed", "parameters": {}, "weight": 1.0, "transform": None}],
        "aggregate": "mean",
    }
    assert config["sampler"] == {"name": "svdd", "M": 3, "alpha": 0.0, "every": 1, "interval": [0.0, 1.0]}
    rest = {"n": 7, "seed": 0, "steps": 3, "batch_size": 4, "prompt": None, "guidance": None, "draws": 1}
    assert {key: config[key] for key in rest} == rest
    assert (config["model"], config["device"], config["dtype"]) == (model, "cpu", "float32")
    former = ("config", "command", "reward_name", "on_error", "time_limit", "versions", "requests_done", "stats")
    (here / "old/run.json").write_text(json.dumps({key: run[key] for key in former}))
    lines = samples(here / "whole").splitlines(keepends=True)
    (here / "old/samples.csv").write_bytes(b"".join(lines[:6]))
    code, out, err = guided(*command, "old")
    assert code == 0 and "7 samples, 3 of them new" in out, err
    assert samples(here / "old") == samples(here / "whole")
    code, _, err = guided(*command, "old", "--seed", "1")
    assert code == 2 and "seed is 0 there and 1 here" in err


TOML = """
model = "MODEL"
reward = { "r.py:length" = 1.0, "qed" = 2.0 }
n = 5
steps = 3
device = "cpu"
sampler = { name = "svdd", M = 3 }
"""


def test_toml_describes_a_run_and_the_command_line_wins(guided, model, here):  # noqa: F811
    (here / "run.toml").write_text("\ufeff" + TOML.replace("MODEL", model), encoding="utf-8")
    code, _, err = guided("sample", "--config", "run.toml", "--no-report", "--out", "a")
    assert code == 0, err
    run = package.sample(
        model, {"r.py:length": 1.0, "qed": 2.0}, {"name": "svdd", "M": 3}, n=5, steps=3, device="cpu", out="b"
    )
    assert samples(here / "a") == samples(here / "b")
    assert run.rewards.tolist() == [float(row["reward"]) for row in rows_of(here / "a/samples.csv")]
    code, _, err = guided(
        "sample", "--config", "run.toml", "--no-report", "-n", "4", "-M", "2", "--alpha", "1", "--out", "c"
    )
    assert code == 0, err
    config = json.loads((here / "c/run.json").read_text())["config"]
    assert (config["n"], config["steps"], config["sampler"]["M"], config["sampler"]["alpha"]) == (4, 3, 2, 1)
    words = ("--sampler", "best-of-n", "--set", "N=2", "--out", "d")
    assert guided("sample", "--config", "run.toml", "--no-report", *words)[0] == 0
    assert json.loads((here / "d/run.json").read_text())["config"]["sampler"] == {"name": "best-of-n", "N": 2}


def test_a_run_is_repeated_from_another_folder(guided, model, here, tmp_path, monkeypatch):  # noqa: F811
    shutil.copytree(model, here / "net")
    assert guided("sample", "net", "-r", "qed", "-n", "3", "-M", "2", *QUICK, "--out", "a")[0] == 0
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    code, _, err = guided("sample", "--config", "../a/run.json", "--no-report", "--out", "b")
    assert code == 0, err
    assert samples(here / "a") == samples(here / "elsewhere/b")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.toml", 'model = "m"\nstepps = 3', "'a.toml' has no option 'stepps' (did you mean 'steps'?)"),
        ("a.toml", "model = ", "'a.toml' is not TOML"),
        ("a.json", "{", "'a.json' is not JSON"),
        ("a.json", "[1]", "'a.json' holds [1]; it must be the run.json of a run, or options by name"),
        ("none.toml", None, "cannot read the options 'none.toml'"),
        ("a.toml", 'model = "m"\nn = "many"', "n is 'many'; it must be a whole number"),
        ("a.toml", 'model = "m"\nn = 0', "n is 0"),
        ("a.toml", "n = 3", "MODEL"),
        ("a.toml", 'model = "molecules"', "needs a --reward"),
        ("a.toml", 'model = "m"\nprompt = "x"\nprompts = "p.txt"', "exclude each other"),
        (
            "a.json",
            json.dumps({"config": {}, "options": {"model": "m", "reward": {"object": "the reward 'f'"}}}),
            "'a.json' does not hold its reward: the reward 'f'; give --reward",
        ),
        ("a.json", json.dumps({"config": {"model": "m", "value": "abc"}}), "only the digest is recorded; give --value"),
    ],
)
def test_a_wrong_file_is_one_line(guided, here, name, text, expected):
    if text is not None:
        (here / name).write_text(text)
    code, out, err = guided("sample", "--config", name)
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, err
    assert expected in err


def test_an_unknown_model_is_said_before_a_missing_reward(guided):
    code, _, err = guided("sample", "nope")
    assert code == 2 and "no model, no folder and no file is called 'nope'" in err
    with pytest.raises(ValueError, match="is called 'nope'"):
        package.sample("nope")


def test_a_reward_that_changes_the_folder_does_not_move_the_run(guided, model, here):  # noqa: F811
    (here / "other").mkdir()
    (here / "move.py").write_text(
        "import os\n\ndef length(samples):\n    os.chdir('other' if os.path.isdir('other') else '.')\n"
        "    return [float(len(s)) for s in samples]\n"
    )
    code, _, err = guided(
        "sample", model, "-r", "move.py:length", "-n", "5", "-M", "2", "--batch-size", "2", "--steps", "3", "--out", "a"
    )
    assert code == 0, err
    assert list((here / "other").iterdir()) == []
    with (here / "a/samples.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 5
    assert (here / "a/report.html").exists()
