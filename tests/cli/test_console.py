"""What is printed reaches any terminal: other encodings than UTF-8, and terminals that cannot move their cursor."""

import io
import os
import subprocess
import sys

import pytest

from guided.cli.console import ProgressBar, printable, show_table
from guided.core.monitor import Progress
from guided.runs.engine import Batch, Stats


@pytest.mark.parametrize("encoding", ["cp932", "ascii", "latin-1", "utf-8"])
def test_a_table_is_printed_in_any_encoding(encoding, monkeypatch):
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding=encoding))
    show_table(["name", "x"], [["é→報", 1.5], ["plain", 2.0]], right=["x"])
    sys.stdout.flush()
    lines = data.getvalue().decode(encoding).splitlines()
    assert len(lines) == 3 and lines[1].endswith("1.5") and lines[2].startswith("plain")


def test_what_the_encoding_has_stays():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert printable("é→", stream) == "é?"
    assert printable("é→", io.StringIO()) == "é→"


def test_the_rewards_are_listed_where_output_is_no_utf_8():
    environment = os.environ | {"PYTHONIOENCODING": "cp932"}
    words = [sys.executable, "-m", "guided", "rewards"]
    done = subprocess.run(words, env=environment, capture_output=True, check=True)
    assert "qed" in done.stdout.decode("cp932")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("term", "plain"), [("dumb", True), ("xterm", False)])
def test_a_dumb_terminal_gets_lines(term, plain, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressBar(2) as bar:
        assert bar.plain == plain
        bar.finished(Batch([0, 1], ["a", "b"], [], {}, Stats(), []), 2, 4)
    assert sys.stderr.getvalue().startswith("2/4 samples, ") == plain


def test_the_best_of_a_batch_is_that_of_its_samples(monkeypatch):
    """Not that of a look-ahead, which may promise more."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with ProgressBar(2) as bar:
        bar(Progress("samples", 0, 2, 3, 4, mean=0.5, best=0.9))
        bar.finished(Batch([0, 1], ["a", "b"], [0.1, 0.3], {"reward": [0.1, 0.3]}, Stats(), []), 2, 2)
    assert "best 0.300" in sys.stderr.getvalue() and "0.9" not in sys.stderr.getvalue()
