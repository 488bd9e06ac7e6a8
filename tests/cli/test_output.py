"""A run does not stop because nobody reads what it prints any more."""

import os
import subprocess
import sys

import pytest

GUIDED = [sys.executable, "-m", "guided"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_is_closed_early_costs_nothing_of_the_run(tmp_path, unbuffered):
    words = ["sample", "rna", "-r", "gc", "-n", "2", "-M", "1", "--steps", "2", "--out", "run"]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    reading, writing = os.pipe()
    os.close(reading)  # as `| head -1` does, at the earliest
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            [*GUIDED, *words],
            stdout=pipe,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr and "Broken" not in done.stderr
    assert {"samples.csv", "samples.fasta", "report.html", "run.json"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_a_help_text_into_a_closed_pipe_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run([*GUIDED, "models"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp932", "latin-1"])
def test_a_name_that_the_encoding_lacks_is_printed_with_question_marks(tmp_path, encoding):
    words = ["sample", "rna", "-r", "gc", "-n", "1", "--steps", "1", "-M", "1", "--no-report", "--out", "é→報"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([*GUIDED, *words], capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"samples.csv: 1 samples, finished" in done.stdout


def test_a_name_that_is_no_utf_8_is_a_name(tmp_path):
    """As a Latin-1 terminal gives it: the folder, run.json and a second run of the same command."""
    name = os.fsencode(tmp_path) + b"/r\xe9s"
    words = [*(os.fsencode(word) for word in GUIDED), b"sample", b"rna", b"-r", b"gc", b"-n", b"1", b"--steps", b"1"]
    command = [*words, b"-M", b"1", b"--no-report", b"--out", name]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert b"already finished" in done.stdout
