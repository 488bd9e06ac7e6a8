"""Options are declared once: what Python, the command line, files and documents say of them is what the fields say."""

import inspect
import os
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pytest
import torch

import guided
from guided.cli.main import app
from guided.errors import GuidedError
from guided.fitting.negative.config import NegativeConfig
from guided.fitting.value.config import FitConfig
from guided.runs.config import RunConfig, RunOptions, Shorthand
from guided.runs.options import Config, Option, options_of, spelling
from guided.runs.signatures import signature, table

ROOT = Path(__file__).parents[2]


def test_python_takes_what_is_declared():
    for function in (guided.sample, guided.stream):
        parameters = dict(inspect.signature(function).parameters)
        assert parameters.pop("progress").default is None
        assert parameters.keys() == options_of(RunConfig).keys()
        for name, parameter in parameters.items():
            declared = options_of(RunConfig)[name].default
            assert parameter.default == (inspect.Parameter.empty if name == "model" else declared)
            assert f"{name}: {options_of(RunConfig)[name].option.help}" in (function.__doc__ or "")
    assert list(inspect.signature(guided.sample).parameters)[:5] == ["model", "reward", "sampler", "n", "seed"]


def test_an_unknown_argument_is_pythons_own_error():
    with pytest.raises(TypeError, match="stepps"):
        guided.sample("molecules", stepps=3)


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (("sample",), (RunConfig, Shorthand)),
        (("fit-value",), (FitConfig,)),
        (("npo", "train"), (NegativeConfig,)),
    ],
)
def test_the_command_line_takes_what_is_declared(guided, words, classes, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    code, out, err = guided(*words, "--help")
    assert code == 0 and err == ""
    declared = {name: it for name, it in options_of(*classes).items() if it.option.shell is not None}
    for name, it in declared.items():
        assert (it.flag if name != "model" else "MODEL") in out, name
        assert it.option.help[:40] in out, name
    assert {it.option.panel for it in declared.values()} <= {
        line.split()[1] for line in out.splitlines() if "╭" in line
    }
    assert f"guided {' '.join(words)} " in out.partition("Examples:")[2]


def test_the_readme_has_the_table():
    assert table(RunConfig) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_an_option_is_one_field():
    """In the signature, on the command line, checked, and kept by name."""

    @dataclass(frozen=True)
    class Longer(RunOptions):
        haste: Annotated[int, Option("How quick.", unit="m/s", least=1, most=3)] = 2

    @dataclass(frozen=True)
    class Extended(RunConfig):
        run: Longer = field(default_factory=Longer)

    assert signature(Extended).parameters["haste"].default == 2
    assert options_of(Extended)["haste"].flag == "--haste"
    assert "| `haste` | `2` | How quick. |" in table(Extended)
    assert Extended.of(model="m", haste=3).values()["haste"] == 3
    with pytest.raises(GuidedError, match=r"^haste is 4; it must be a whole number, at least 1, at most 3 m/s$"):
        Extended.of(model="m", haste=4)
    flags = spelling({"haste": "--haste"})
    with flags, pytest.raises(GuidedError, match=r"^--haste is 4; it must be in \[1, 3\] m/s$"):
        Extended.of(model="m", haste=4)


SCRIPT = """
import inspect, json, sys
import guided
from guided.cli import main

print("haste" in inspect.signature(guided.sample).parameters)
options = dict(model="molecules", reward="length.py:length", n=2, steps=2)
guided.sample(**options, out="a")
guided.sample(**options, out="b", haste=3)
for name in "ab":
    run = json.load(open(f"{name}/run.json"))
    print(run["config"].get("haste"), run["options"]["haste"])
try:
    guided.sample(**options, out="b")
except ValueError as error:
    print(error)
sys.argv = ["guided", "sample", "--help"]
main()
"""


def test_an_option_is_one_field_in_one_file(tmp_path):
    """The package with one line more: nothing else is touched."""
    source = (ROOT / "guided/runs/config.py").read_text()
    line = '    haste: Annotated[int, Option("How quick.", least=1)] = 2\n'
    head, mark, tail = source.partition("    batch_size: ")
    copy = tmp_path / "guided"
    (copy / "runs").mkdir(parents=True)
    for folder in ("guided", "guided/runs"):
        for path in (ROOT / folder).iterdir():
            target = tmp_path / folder / path.name
            if not target.exists() and path.name != "__pycache__":
                target.symlink_to(path.resolve())
    (copy / "runs/config.py").unlink()
    (copy / "runs/config.py").write_text(head + line + mark + tail)
    (tmp_path / "length.py").write_text("def length(samples):\n    return [float(len(s)) for s in samples]\n")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known, first, second, refused, *rest = done.stdout.splitlines()
    assert known == "True" and first == "None 2" and second == "3 3"
    assert "haste is 3 there and null here" in refused
    assert any("--haste" in line and "How quick. Default: 2." in line for line in rest)


def test_nobody_else_lists_the_options():
    """The files between the declaration and its use name no option that they do not treat in its own way."""
    for name in ("guided/cli/main.py", "guided/cli/generate.py"):
        text = (ROOT / name).read_text()
        assert "batch_size" not in text and "time_limit" not in text and "locals()" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 2.5}, "^n is 2.5; it must be a whole number, at least 1$"),
        ({"n": True}, "^n is True; it must be a whole number"),
        ({"n": None}, "^n is None; it must be a whole number"),
        ({"n": "many"}, "^n is 'many'; it must be a whole number"),
        ({"seed": 2**64}, "^seed is 18446744073709551616; it must be a whole number, at least 0"),
        ({"rescale": float("inf")}, "^rescale is inf; it must be a finite number, at least 0, at most 1$"),
        ({"time_limit": 0}, "^time_limit is 0; it must be above 0 seconds$"),
        ({"dtype": "float8"}, "^dtype is 'float8'; it is one of float32, bfloat16, float16$"),
        ({"aggregate": "max"}, "^aggregate is 'max'; it is one of mean, product, tchebycheff$"),
        ({"rescale": 0.5, "guidance": 1}, "^rescale needs guidance, and guidance 1 is none; give another weight$"),
        ({"mask": "m.png"}, "^mask is for runs that start from an image; give the image too$"),
        ({"only": []}, "^only is empty"),
        ({"only": [3], "n": 3}, "^request 3 is not among the 3 of this run, 0 to 2$"),
        ({"stepps": 3}, "^there is no option 'stepps' .did you mean 'steps'"),
        ({"report": "yes please"}, "^report is 'yes please'; it must be a valid boolean"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(GuidedError, match=message) as error:
        RunConfig.of(model="molecules", **options)
    assert "\n" not in str(error.value)


def test_numbers_of_other_libraries_are_pythons_own():
    config = RunConfig.of(model="m", n=np.int64(3), guidance=np.float32(2), steps=np.array(5), only=2)
    assert (type(config.run.n), type(config.prompting.guidance), type(config.search.steps)) == (int, float, int)
    assert config.run.only == [2]


def test_a_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert RunConfig.of(model="m", out="~/a").run.out == Path("/somewhere/a")


def test_every_part_is_made_of_options():
    for part in (it.type for it in fields(RunConfig)):
        assert issubclass(part, Config)
    assert app.registered_commands


@pytest.mark.parametrize("hold", [np.array, pd.Series, lambda texts: tuple(np.str_(text) for text in texts)])
def test_prompts_come_as_numpy_and_pandas_hold_them(hold):
    config = RunConfig.of(model="dna", reward="gc", n=2, prompt=hold(["HepG2", "K562"]))
    assert config.prompting.prompt == ["HepG2", "K562"]
    assert all(type(text) is str for text in config.prompting.prompt)


@pytest.mark.parametrize("prompt", [[1, 2], ["HepG2", float("nan")], 3, {"HepG2"}])
def test_what_is_no_prompt_is_refused(prompt):
    with pytest.raises(GuidedError, match=r"^prompt.*must be a text"):
        RunConfig.of(model="dna", reward="gc", n=2, prompt=prompt)


@pytest.mark.parametrize("only", [[np.int64(2), 0], np.array([2, 0]), torch.tensor([2, 0])])
def test_requests_come_as_numpy_and_torch_hold_them(only):
    config = RunConfig.of(model="dna", reward="gc", n=3, only=only)
    assert config.run.only == [2, 0] and all(type(i) is int for i in config.run.only)
    assert RunConfig.of(model="dna", reward="gc", n=3, only=np.int64(1)).run.only == [1]
