"""What all tests share. Hypothesis draws the same examples every time, and no clock fails a test on a busy machine."""

import sys

import pytest
import torch
from hypothesis import settings

from guided import cli

settings.register_profile("guided", deadline=None, derandomize=True)
settings.load_profile("guided")


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """Numbers near 0 stay what they are: the training of images has them rounded to 0 in the whole process."""
    torch.set_flush_denormal(False)


@pytest.fixture
def guided(monkeypatch, capsys):
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["guided", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run
