"""Runs with workers end as documented, whatever ends them, and leave no process behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_signals import PATH, runs, start, wait

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
HANGS = """\
import ctypes, os, subprocess

def f(samples):
    child = subprocess.Popen(["sleep", "300"])
    with open(f"{os.getpid()}.part", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(f"{os.getpid()}.part", f"{os.getpid()}.pids")
    ctypes.PyDLL(None).usleep(2_000_000_000)  # which holds Python's lock
"""
SCRIPT = """\
import os
import guided

print("begins")

def letters(samples):
    with open("pids", "a") as file:
        file.write(f"{os.getpid()} ")
    return [float(sample.count("G")) for sample in samples]

options = {"steps": 2, "batch_size": 2, "workers": 2}
run = guided.sample("rna", letters, guided.samplers.SVDD(2), 6, **options)
print(run.rewards.tolist() == letters(run.samples), os.getpid())
batches = guided.stream("rna", letters, guided.samplers.SVDD(2), 6, **options)
next(batches)
"""


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGKILL, -9, "")])
def test_a_signal_ends_a_run_whose_workers_hang_in_c_code(tmp_path, number, code, word):
    """Of two blocks that are drawn at once, each waits for a worker."""
    (tmp_path / "hang.py").write_text(HANGS)
    run = start(tmp_path, "-n", "2", "--batch-size", "1", "--workers", "2", reward="hang.py:f")
    assert wait(lambda: len(list(tmp_path.glob("*.pids"))) == 2)
    pids = [int(pid) for file in tmp_path.glob("*.pids") for pid in file.read_text().split()]
    assert len(pids) == 4 and all(map(runs, pids))
    run.send_signal(number)
    _, err = run.communicate(timeout=30)
    assert run.returncode == code and err.endswith(word) and "Traceback" not in err
    assert wait(lambda: not any(map(runs, pids)), 5)


def test_a_script_without_a_guard_runs_once_and_leaves_nothing(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.replace("import guided\n", "import guided, guided.samplers\n"))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *rest = done.stdout.splitlines()
    assert first == "begins" and second.startswith("True ") and rest == []
    own = int(second.split()[1])
    pids = {int(pid) for pid in (tmp_path / "pids").read_text().split()} - {own}
    assert 2 <= len(pids) <= 4 and wait(lambda: not any(map(runs, pids)), 5)


def test_a_folder_is_resumed_with_another_number_of_workers(guided, tmp_path):
    (tmp_path / "gc.py").write_text("def gc(samples):\n    return [s.count('G') / 50 for s in samples]\n")
    words = ["sample", "rna", "-r", f"{tmp_path}/gc.py:gc", "-n", 6, "-M", 2, "--steps", 3, "--batch-size", 2]
    assert guided(*words, "--out", tmp_path / "one", "--no-report")[0] == 0
    assert guided(*words, "--out", tmp_path / "two", "--no-report", "--workers", 1)[0] == 0
    whole = (tmp_path / "one" / "samples.csv").read_bytes()
    assert (tmp_path / "two" / "samples.csv").read_bytes() == whole
    lines = whole.splitlines(keepends=True)
    (tmp_path / "two" / "samples.csv").write_bytes(b"".join(lines[:4]))
    code, out, _ = guided(*words, "--out", tmp_path / "two", "--no-report", "--workers", 0, "--cache", tmp_path / "c")
    assert code == 0 and "4 of them new" in out
    assert (tmp_path / "two" / "samples.csv").read_bytes() == whole
    code, out, _ = guided(*words, "--out", tmp_path / "three", "--no-report", "--cache", tmp_path / "c")
    assert "of them cached" in out and (tmp_path / "three" / "samples.csv").read_bytes() == whole


def test_wrong_numbers_of_workers_are_one_line(guided):
    code, _, err = guided("sample", "rna", "-r", "gc", "--workers", -1)
    assert code == 2 and err == "error: --workers is -1; it must be in [0, 1024]\n"
