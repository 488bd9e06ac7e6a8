"""What the README and the examples say is what happens: their code is run."""

import ast
import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import guided
from guided.cli import main
from tests.test_imports import imports

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.strip() for line in README.splitlines() if line.startswith("    guided ")]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_code_runs(block, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_readme_has_code_and_commands():
    assert len(BLOCKS) >= 3 and len(COMMANDS) >= 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all commands: some go on with what others left."""
    return tmp_path_factory.mktemp("commands")


@pytest.mark.parametrize("line", COMMANDS)
def test_readme_commands_run(line, folder, monkeypatch):
    """As they stand, but for fewer samples of fewer steps."""
    monkeypatch.chdir(folder)
    for command in line.split(";"):
        words = shlex.split(command)
        if "sample" in words:
            words = [*words, "-n", "18", "--steps", "4", "-M", "2", "--batch-size", "18"]
        if "fit-value" in words:
            words = [*words, "-n", "32", "--steps", "4", "--updates", "5", "--check", "0"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code in (0, None)
    if "sample" in line and "--out" in line:
        assert (folder / words[words.index("--out") + 1] / "report.html").exists()


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


PUBLIC = {"guided", "guided.errors", "guided.rewards", "guided.samplers"}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_import_public_names(path):
    """What stands in `guided`, and in the modules of errors, rewards and samplers."""
    source = path.read_text()
    for name in imports("examples", source):
        if name.split(".")[0] == "guided":
            assert name in PUBLIC or name.startswith(("guided.rewards.", "guided.samplers.")), name
    used = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute) and _is_guided(node)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "guided":
            used |= {alias.name for alias in node.names}
    assert used <= set(guided.__all__)
    assert "subprocess" not in source


def _is_guided(node):
    return isinstance(node.value, ast.Name) and node.value.id == "guided"


def test_public_names_are_there():
    assert all(getattr(guided, name) is not None for name in guided.__all__)


def run_example(name, *arguments):
    command = [sys.executable, ROOT / "examples" / name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_example_molecules(tmp_path):
    out = run_example("molecules.py", "--n", "4", "--steps", "8", "--out", str(tmp_path))
    assert "best of 10" in out and "SVDD" in out
    assert (tmp_path / "molecules.png").stat().st_size > 1000
    assert len((tmp_path / "samples.csv").read_text().splitlines()) == 1 + 3 * 4


def test_example_dna(tmp_path):
    sizes = ("--n", "2", "--steps", "4", "--rollouts", "20", "--updates", "2")
    out = run_example("dna.py", *sizes, "--out", str(tmp_path))
    assert all(name in out for name in ("unguided", "best of 10", "SVDD-MC", "SVDD-PM", "judge"))
    assert len((tmp_path / "samples.csv").read_text().splitlines()) == 1 + 4 * 2
    assert (tmp_path / "samples.fasta").read_text().count(">") == 2
    assert (tmp_path / "svdd-pm" / "report.html").exists()


def test_example_rna(tmp_path):
    sizes = ("--n", "2", "--steps", "4", "--rollouts", "20", "--updates", "2")
    out = run_example("rna.py", *sizes, "--out", str(tmp_path))
    assert "SVDD-MC" in out and (tmp_path / "samples.fasta").read_text().count(">") == 2


def test_example_custom_reward():
    own, many = (float(x) for x in re.findall(r"([\d.]+) oxygens,", run_example("custom_reward.py"))[:2])
    assert many > own + 1


def test_example_scaffold():
    out = run_example("scaffold.py", "--n", "4")
    assert re.search(r"SVDD: .* scaffold in 4 of 4", out)


def test_example_images(tmp_path):
    (tmp_path / "two.txt").write_text("red apple\nblue car\n")
    sizes = ("--per-prompt", "2", "-M", "2", "--steps", "3", "--lookahead", "tiny", "--out", str(tmp_path / "out"))
    out = run_example("images.py", "--prompts", str(tmp_path / "two.txt"), *sizes)
    names = ["unguided", "best of 2", "SVDD"]
    assert all(name in out for name in names)
    with (tmp_path / "out" / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sampler"] for row in rows] == [name for name in names for _ in range(4)]
    assert [row["prompt"] for row in rows] == ["red apple", "red apple", "blue car", "blue car"] * 3
    assert all((tmp_path / "out" / row["file"]).is_file() for row in rows)
    medians = {name: float(re.search(rf"^{name} +(\S+)", out, re.M)[1]) for name in names}
    for name in names:
        rewards = sorted(float(row["reward"]) for row in rows if row["sampler"] == name)
        assert medians[name] == pytest.approx(rewards[1], abs=1e-3)  # torch's median of four is the second
    sheets = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert sheets == {"overview.png", "00-red-apple.png", "01-blue-car.png"}


def test_example_inpaint(tmp_path):
    out = run_example("inpaint.py", "--n", "2", "-M", "2", "--steps", "4", "--out", str(tmp_path))
    kept, free = (float(re.search(rf"where it is {part}: ([\d.]+)", out)[1]) for part in ("kept", "free"))
    assert kept < free / 2
    assert re.search(r"red: -[\d.]+ before, -[\d.]+ after", out)
    assert (tmp_path / "inpaint.png").stat().st_size > 1000


def test_example_text():
    out = run_example("text.py", "--updates", "20", "--n", "2", "-M", "2")
    assert re.search(r"trained 20 updates, loss \d", out)
    assert all(re.search(rf"^{name} +\S+ +\d", out, re.M) for name in ("unguided", "best of 2", "SVDD"))
    assert out.count("    the cat") == 6


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("text.py", "--n", "0"), "--n is 0"),
        (("text.py", "--updates", "0"), "--updates is 0"),
        (("images.py", "--prompts", "none.txt"), "cannot read the prompts 'none.txt'"),
        (("images.py", "--per-prompt", "0"), "--per-prompt is 0"),
        (("inpaint.py", "--strength", "0"), "--strength is 0.0"),
        (("inpaint.py", "--mask", "README.md"), "'README.md' is no image"),
        (("inpaint.py", "--reward", "target_colour?colour=rde"), "did you mean 'red'"),
        (("molecules.py", "--n", "0"), "--n is 0; it must be a whole number, at least 1"),
        (("molecules.py", "--steps", "0"), "--steps is 0"),
        (("molecules.py", "--seed", "-1"), "--seed is -1"),
        (("dna.py", "--rollouts", "0", "--n", "2", "--steps", "4"), "--rollouts is 0"),
        (("dna.py", "--n", "0"), "--n is 0"),
        (("dna.py", "--updates", "0"), "--updates is 0"),
        (("rna.py", "--weights", "nope.hdf5"), "nope.hdf5"),
        (("rna.py", "--species", "mouse", "--steps", "4"), "'mouse'"),
        (("scaffold.py", "--scaffold", "xx"), "--scaffold is 'xx'; it must be the SMILES of a molecule"),
        (("scaffold.py", "--scaffold", ""), "--scaffold is ''"),
        (("scaffold.py", "--scaffold", "[U]"), "[U]"),
        (("scaffold.py", "--n", "0"), "--n is 0"),
        (("inpaint.py", "--model", "molecules", "--reward", "qed"), "'molecules' are molecules, not images"),
    ],
)
def test_examples_say_what_is_wrong_in_one_line(words, expected, tmp_path):
    name, *rest = words
    out = () if name in ("scaffold.py", "text.py") else ("--out", tmp_path / "out")
    command = [sys.executable, ROOT / "examples" / name, *rest, *out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert expected in done.stderr and done.stdout == "" and not (tmp_path / "out").exists()


def test_every_example_has_a_help():
    for path in sorted((ROOT / "examples").glob("*.py")):
        if "__main__" in path.read_text():
            assert "usage: " in run_example(path.name, "--help"), path.name
