"""Laws of reward files: their neighbours are found, and processes that they start can import them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guided.scoring.objective import resolve_reward

ROOT = Path(__file__).parents[2]
POOL = """\
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
from helper_of_pool import LENGTH
class Sample(str): pass
def one(s): return LENGTH * float(len(s))
def pool(samples):
    with mp.get_context("spawn").Pool(1) as p: return p.map(one, samples)
def executor(samples):
    with ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")) as p: return list(p.map(one, map(Sample, samples)))
"""


def run(code: str, folder: Path) -> str:
    """What a script prints that runs with the checkout at the front of its import path."""
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    (folder / "run_it.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(folder / "run_it.py")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_may_spread_its_work_over_processes_that_are_spawned(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "pool.py").write_text(POOL)
    (folder / "helper_of_pool.py").write_text("LENGTH = 2\n")
    code = f"""\
from guided.scoring.objective import resolve_reward
if __name__ == "__main__":
    for name in ("pool", "executor"):
        print(resolve_reward({str(folder / "pool.py")!r} + ":" + name, time_limit=60)(["a", "bcd"]).tolist())
"""
    assert run(code, tmp_path).split("\n")[:2] == ["[2.0, 6.0]"] * 2


@pytest.mark.parametrize("form", ["module", "package"])
def test_a_neighbour_may_be_called_as_a_folder_of_the_checkout(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    names = ("rewards", "tests", "samplers", "examples", "training", "docs", "benchmarks")
    for i, name in enumerate(names):
        place = folder / f"{name}.py" if form == "module" else folder / name / "__init__.py"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"VALUE = {i}.0\n")
    imports = "".join(f"from {name} import VALUE as {name}\n" for name in names)
    (folder / "mine.py").write_text(f"{imports}def f(s):\n    return [{' + '.join(names)}] * len(s)\n")
    code = f"""\
from guided.scoring.objective import resolve_reward
made = resolve_reward({str(folder / "mine.py")!r} + ":f")
print(made(["a"]).tolist(), sorted(made.identity["terms"][0]["modules"]), made(["a"]).tolist())
print(resolve_reward("gc")(["ACGT"]).tolist())
"""
    assert run(code, tmp_path) == f"[21.0] {sorted(names)} [21.0]\n[1.0]\n"


def test_two_files_with_neighbours_of_one_name_have_each_its_own(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        folder = tmp_path / str(value)
        folder.mkdir()
        (folder / "same_name.py").write_text(f"VALUE = {value}\n")
        (folder / "r.py").write_text("from same_name import VALUE\ndef f(s):\n    return [VALUE] * len(s)\n")
    first, second, again = (resolve_reward(f"{tmp_path}/{value}/r.py:f") for value in (1.0, 2.0, 1.0))
    assert [made(["a"]).item() for made in (first, second, again)] == [1.0, 2.0, 1.0]
    assert first.identity == again.identity != second.identity
    sys.modules.pop("same_name", None)


def test_a_neighbour_does_not_take_the_place_of_a_library(tmp_path: Path) -> None:
    for name in ("json", "torch", "typing"):
        (tmp_path / f"{name}.py").write_text("1 / 0\n")
    (tmp_path / "r.py").write_text("import json, torch, typing\ndef f(s):\n    return [1.0] * len(s)\n")
    made = resolve_reward(f"{tmp_path}/r.py:f")
    assert made(["a"]).tolist() == [1.0] and "modules" not in made.identity["terms"][0]
