"""Real processes: whoever is killed, the file is the same, and no process is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import guided as package
from guided.errors import GuidedError
from guided.samplers import SVDD
from tests.cli.test_signals import PATH, runs, wait
from tests.runs.test_sample import dna, gc

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")

RUN = {"sampler": SVDD(3), "n": 9, "batch_size": 2}
WORDS = ("-n", "9", "--batch-size", "2", "--steps", "6", "-M", "3", "--device", "cpu", "--no-report")
REWARD = """\
import os, time
from pathlib import Path
def slow(samples):
    Path(f"pid-{os.getpid()}").touch()
    end = time.monotonic() + 60
    while len(list(Path().glob("pid-*"))) < int(os.environ.get("TOGETHER", "0")) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(float(os.environ.get("SLOW", "0")))
    return [s.count("G") / len(s) for s in samples]
"""


def pids(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


def start(folder: Path, *words: str, program: tuple[str, ...] = (), **environment: str) -> "subprocess.Popen[str]":
    (folder / "r.py").write_text(REWARD)
    return subprocess.Popen(
        [sys.executable, *program, "-m", "guided", "sample", "rna", "-r", "r.py:slow", *WORDS, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PATH, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def whole(guided, tmp_path, monkeypatch):
    """What one process writes; the same command in this process goes on with another folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.py").write_text(REWARD)

    def drawn(out):
        code, _, err = guided("sample", "rna", "-r", "r.py:slow", *WORDS, "--out", out)
        assert code == 0, err
        return (tmp_path / out / "samples.csv").read_bytes()

    return drawn


def test_a_killed_process_is_replaced_and_its_block_drawn_again(tmp_path, capfd):
    """The model is in memory and the reward a closure: both travel by value. What all print is shown once."""
    marker, folder = tmp_path / "killed", tmp_path

    def fatal(samples):
        (folder / f"pid-{os.getpid()}").touch()
        print("scoring")
        if "GGG" in samples[0] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return gc(samples)

    run = package.sample(dna(), fatal, **RUN, devices="cpu,cpu", out=tmp_path / "a")
    one = package.sample(dna(), gc, **RUN, out=tmp_path / "b")
    assert marker.exists() and run.samples == one.samples
    columns = [(tmp_path / name / "samples.csv").read_text().splitlines()[1:] for name in "ab"]
    assert columns[0] == columns[1]
    assert len(pids(tmp_path)) >= 2 and wait(lambda: not any(map(runs, pids(tmp_path))), 5)
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err.startswith("scoring\n")

    with pytest.raises(GuidedError, match=r"were given up: both processes .* ended, the last one with SIGKILL"):
        package.sample(dna(), lambda samples: os.kill(os.getpid(), signal.SIGKILL), **RUN, devices=2)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["kill", "term", "int"]
)
def test_a_killed_run_leaves_no_process_and_goes_on_with_one(tmp_path, whole, number, code):
    (tmp_path / "tmp").mkdir()
    run = start(tmp_path, "--devices", "2", "--out", "a", SLOW="0.1", TMPDIR=str(tmp_path / "tmp"))
    assert wait(lambda: len(pids(tmp_path)) == 2)
    run.send_signal(number)
    _, err = run.communicate(timeout=30)
    assert run.returncode == code and "Traceback" not in err
    assert wait(lambda: not any(map(runs, pids(tmp_path))), 5)
    assert number == signal.SIGKILL or not list((tmp_path / "tmp").glob("guided-*"))
    assert whole("a") == whole("b")


def test_a_launcher_starts_the_processes(tmp_path, whole):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")  # what accelerate calls
    run = start(tmp_path, "--out", "a", program=launcher, TOGETHER="2")
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert len(pids(tmp_path)) == 2 and wait(lambda: not any(map(runs, pids(tmp_path))), 5)
    assert (tmp_path / "a/samples.csv").read_bytes() == whole("b")
