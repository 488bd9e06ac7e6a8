"""How a run ends: exit codes, and nothing that it started is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATH = os.pathsep.join(filter(None, sys.path))
PROGRAM = """\
import json, os, subprocess, sys, time
child = subprocess.Popen(["sleep", "300"])
with open("pids.part", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename("pids.part", "pids")
for line in sys.stdin:
    time.sleep(300)
"""


@pytest.fixture(autouse=True)
def _nothing_left(monkeypatch):
    """A test that fails leaves no process behind."""
    started, real = [], subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: started.append(real(*args, **kwargs)) or started[-1]
    )
    yield
    for run in started:
        run.kill()


def start(folder: Path, *words: str, reward: str) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "guided",
        "sample",
        "rna",
        "--reward",
        reward,
        "-n",
        "1",
        "-M",
        "1",
        "--steps",
        "1",
    ]
    return subprocess.Popen(
        [*command, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PATH, "PYTHONFAULTHANDLER": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def wait(true, seconds=60.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.parametrize(
    ("number", "code", "word", "limited"),
    [
        (signal.SIGINT, 130, "interrupted", True),
        (signal.SIGTERM, 143, "terminated", False),
        (signal.SIGHUP, 129, "hung up", True),
        (signal.SIGKILL, -9, "", False),
    ],
)
def test_a_signal_ends_the_run_and_external_programs_with_their_children(tmp_path, number, code, word, limited):
    (tmp_path / "slow.py").write_text(PROGRAM)
    words = ("--time-limit", "200") if limited else ()
    run = start(tmp_path, *words, reward=f"exec:{sys.executable} slow.py")
    assert wait((tmp_path / "pids").exists)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(map(runs, pids))
    run.send_signal(number)
    _, err = run.communicate(timeout=30)
    assert run.returncode == code and "Traceback" not in err
    assert not word or err.endswith(f"{word}\n")
    assert wait(lambda: not any(map(runs, pids)), 5)


@pytest.mark.parametrize(
    ("busy", "policy", "code"), [("a + a", "worst", 0), ("try: a + a\n        except BaseException: pass", "stop", 2)]
)
def test_a_reward_that_hangs_ends_with_the_exit_code_of_the_run(tmp_path, busy, policy, code):
    text = f"import torch\ndef f(s):\n    a = torch.randn(100)\n    while True:\n        {busy}\n"
    (tmp_path / "hang.py").write_text(text)
    run = start(tmp_path, "--time-limit", "0.5", "--on-error", policy, reward="hang.py:f")
    _, err = run.communicate(timeout=60)
    assert run.returncode == code and "took longer than 0.5 s" in err and "Traceback" not in err


@pytest.mark.parametrize("after", [0.1, 0.5])
def test_ctrl_c_in_the_first_second_is_quiet(tmp_path, after):
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored where tests run in the background
    code = f"import signal\n{heard}\nprint('started', flush=True)\nfrom guided.cli import main\nmain()"
    command = [sys.executable, "-c", code, "sample", "rna", "--reward", "gc", "-n", "100000"]
    environment = {**os.environ, "PYTHONPATH": PATH}
    pipe = subprocess.PIPE
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
    assert run.stdout is not None and run.stdout.readline() == "started\n"
    time.sleep(after)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130 and err.strip().endswith("interrupted") and "Traceback" not in err


def test_c_code_that_does_not_return_ends_too(tmp_path):
    text = "import ctypes\ndef f(s):\n    open('in', 'w').close()\n    ctypes.CDLL(None).usleep(2_000_000_000)\n"
    (tmp_path / "hang.py").write_text(text)
    code = "from guided.cli import main, signals\nsignals.PATIENCE = 0.5\nmain()"
    words = ["sample", "rna", "--reward", "hang.py:f", "-n", "1", "-M", "1", "--steps", "1"]
    environment = {**os.environ, "PYTHONPATH": PATH}
    pipe = subprocess.PIPE
    run = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe
    )
    assert wait((tmp_path / "in").exists)
    run.terminate()
    run.communicate(timeout=10)
    assert run.returncode == 143
